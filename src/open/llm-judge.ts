/** LLM judges by name: `judge:FILE`, whose file says which server is asked what. */
import { JudgeCalls, type JudgeUsage } from "../rlhf/llm-judge/calls.ts";
import { judgeReward } from "../rlhf/llm-judge/reward.ts";
import { type JudgeSpec, judgeSpec } from "../rlhf/llm-judge/spec.ts";
import type { RewardFunction } from "../rlhf/rewards.ts";
import { CallLog } from "../runtime/call-log.ts";
import { environment } from "../runtime/environment.ts";
import { UserError } from "../runtime/errors.ts";
import { readText } from "../runtime/json-files.ts";
import { basename, dirname, join } from "../runtime/paths.ts";
import { filesOf, type Surroundings } from "./surroundings.ts";
import { parseYaml } from "./yaml.ts";

/** How LLM judges are spelled. */
export const JUDGE = "judge:";

/** Whether a name means an LLM judge. */
export const isLlmJudge = (name: string): boolean => name.startsWith(JUDGE);

/** The file of a judge, of its name with or without the prefix. */
export const judgeFile = (name: string): string => (isLlmJudge(name) ? name.slice(JUDGE.length) : name);

/** How a judge is opened. */
export interface LlmJudgeOptions extends Surroundings {
  /** Hears how many of the questions under way are answered. Default: nobody. */
  onAnswer?: (done: number, total: number) => void;
}

/**
 * Opens an LLM judge: reads its file (YAML or JSON; see `JudgeSpec`) and the answers that it has given before.
 * @param name `judge:FILE`, or the file
 * @throws UserError naming file and field, and the variable of the key where that is not set
 */
export async function openLlmJudge(name: string, options: LlmJudgeOptions = {}): Promise<JudgeCalls> {
  const path = judgeFile(name);
  const files = await filesOf(options);
  const text = await readText(files, path);
  if (text === null)
    throw new UserError(`cannot read ${path || name}: no such file, which should describe an LLM judge`);
  const spec = judgeSpec((await parseYaml(text, path)).values, path);
  const log = await CallLog.open(files, logPath(path, spec));
  const { signal, onAnswer } = options;
  return new JudgeCalls(spec, {
    name: path,
    log,
    apiKey: keyOf(spec, path),
    signal,
    ...(onAnswer && { onProgress: onAnswer }),
  });
}

/** The reward of a judge of single answers; in metrics it goes by its file's name. Throws a UserError for a judge of pairs. */
export const llmJudgeReward = (calls: JudgeCalls, name: string): RewardFunction =>
  Object.defineProperty(judgeReward(calls, name), "name", {
    value: basename(judgeFile(name)).replace(/\.\w+$/, ""),
    configurable: true,
  });

/** Where the answers are kept: `helpful.yaml` has them in `helpful.answers.jsonl`. */
const logPath = (path: string, { cache }: JudgeSpec): string =>
  cache === null
    ? `${path.replace(/\.\w+$/, "")}.answers.jsonl`
    : /^([A-Za-z]:)?[/\\]/.test(cache)
      ? cache
      : join(dirname(path), cache);

function keyOf({ apiKeyEnv }: JudgeSpec, path: string): string | null {
  if (apiKeyEnv === null) return null;
  const key = environment(apiKeyEnv)?.trim();
  if (key) return key;
  throw new UserError(`${path}: the variable ${apiKeyEnv}, which api_key_env names, is not set`);
}

/**
 * Refuses what cuts answers to a model's length.
 * @throws UserError naming the setting
 */
export function refuseForJudge(
  o: { maxLength?: number | null; truncationSide?: string; normalize?: string },
  name: string,
): void {
  const reads = `does not apply: ${name} reads texts, and all of them`;
  if ((o.maxLength ?? null) !== null) throw new UserError(`max_length ${reads}`);
  if (o.truncationSide === "left") throw new UserError(`truncation_side ${reads}`);
  if (o.normalize === "true") throw new UserError(`normalize does not apply: ${name} has no statistics of its scores`);
}

/** What was asked, in words. */
export const usageWords = ({ asked, kept, promptTokens, completionTokens }: JudgeUsage): string =>
  `${asked} answers of the judge, ${kept} more were there before` +
  (promptTokens + completionTokens > 0 ? ` (${promptTokens} tokens read, ${completionTokens} written)` : "");
