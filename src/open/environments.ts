/** Environments by name: built-in ones, or one's own code. */
import { MADE_RECORDS, WORLD } from "../data/made.ts";
import { builtinEnvironment } from "../rlhf/environment/builtin/index.ts";
import { type Environment, environmentPrompts } from "../rlhf/environment/environment.ts";
import { openEnvEnvironment } from "../rlhf/environment/openenv.ts";
import { environmentReward } from "../rlhf/environment/reward.ts";
import type { RewardFunction } from "../rlhf/rewards.ts";
import type { Prompt } from "../rlhf/sampler.ts";
import { UserError } from "../runtime/errors.ts";
import { importCode, isCode } from "../runtime/own-code.ts";
import { basename } from "../runtime/paths.ts";
import { spelled } from "../settings/index.ts";

/** How the name of a server's environment begins. */
const OPENENV = "openenv:";

/** An environment as callers give it: a name, or the thing itself. */
export type EnvironmentLike = string | Environment;

/**
 * Opens an environment.
 * @param environment `builtin:guess` or another of `builtinEnvironments`; `openenv:http://127.0.0.1:8000`, an OpenEnv server, with
 *   `#field` where its actions have several text fields; a module of one's own (.ts, .js, .mjs), whose `default` or
 *   `environment` export is the environment or its `reset` function; or the environment itself
 * @throws UserError for a name that there is not, and a module that cannot be loaded or exports something else
 */
export async function openEnvironment(environment: EnvironmentLike): Promise<Environment> {
  if (typeof environment !== "string") return environment;
  if (environment.startsWith(OPENENV)) {
    const [address, field = null] = environment.slice(OPENENV.length).split("#");
    return openEnvEnvironment(address, { field });
  }
  if (!isCode(environment)) return builtinEnvironment(environment);
  const module = await importCode(environment);
  const exported = (module.default ?? module.environment) as Environment | Environment["reset"] | undefined;
  const given = typeof exported === "function" ? { reset: exported } : exported;
  if (typeof given?.reset !== "function") {
    throw new UserError(
      `${environment}: a module of an environment exports as "default" or "environment" an object with a reset function, or that ` +
        `function; this one has ${Object.keys(module).join(", ") || "no exports"}`,
    );
  }
  // An instance keeps its own methods and state.
  return given.name === undefined ? Object.assign(given, { name: basename(environment) }) : given;
}

/** What settings say of the data beside an environment. */
interface DataNamed {
  environment: string | null;
  datasetName: string;
  evalDatasetName?: string | null;
  datasetTestSplit?: string | null;
  testSize: number;
}

/**
 * Prompts of an environment's own rows, where no dataset is named and it has such; else null.
 * @throws UserError for settings of a dataset without one
 */
export function ownPrompts(
  environment: Environment,
  o: DataNamed,
): ((n: number, seed: number, split: "train" | "test") => Prompt[]) | null {
  if (!environment.rows || o.datasetName !== WORLD) return null;
  for (const key of ["evalDatasetName", "datasetTestSplit", "testSize"] as const) {
    if (!o[key]) continue;
    throw new UserError(
      `${spelled(o, key)} has no effect: ${o.environment} makes its own rows, held-out ones too, where ${spelled(o, "datasetName")} ` +
        "names none",
    );
  }
  return (n, seed, split) => environmentPrompts(environment, n, seed, split);
}

/** What settings say of an environment that a policy is trained in. */
interface Named extends DataNamed {
  maxTrainSamples: number | null;
  maxEvalSamples: number;
  seed: number;
}

/** An environment by settings: with its reward, and its own rows where no dataset is named. */
export async function environmentIn(o: Named): Promise<{
  environment?: Environment;
  rewards: RewardFunction[];
  data?: { train: Prompt[]; eval: Prompt[] };
}> {
  if (o.environment === null) return { rewards: [] };
  const environment = await openEnvironment(o.environment);
  const found = { environment, rewards: [environmentReward] };
  const own = ownPrompts(environment, o);
  if (!own) return found;
  const train = own(o.maxTrainSamples ?? MADE_RECORDS, o.seed, "train");
  return { ...found, data: { train, eval: own(o.maxEvalSamples, o.seed, "test") } };
}
