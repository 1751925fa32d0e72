/** What the record of a run says that is started by names. */
import { adapterName } from "../gpu/device.ts";
import { readAdapterFolder } from "../nn/peft.ts";
import type { RunFacts } from "../rlhf/record.ts";
import { isReplaced } from "../rlhf/run-folder.ts";
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { absolute } from "../runtime/paths.ts";
import { VERSION } from "../runtime/version.ts";
import { type SettingsTable, snakeCase, withoutSecrets } from "../settings/index.ts";
import type { Located } from "./hub.ts";
import { type FoundInput, hashed, inputsOf, isOfOutput, parentsOf } from "./inputs.ts";
import { ModelOpener } from "./opener.ts";
import { filesOf, type Surroundings } from "./surroundings.ts";

/** A verb's work or a method's run, so far as its record needs it. */
export interface About {
  readonly verb: string;
  readonly table: SettingsTable;
  /** Resolved by the table. */
  readonly values: object;
  readonly around?: Surroundings;
  /** Finds what is read, where that is more than what the settings name. */
  readonly inputs?: (() => Promise<FoundInput[]>) | undefined;
}

/** The facts of a run; data and models are read once, for their hashes. */
export async function factsOf(about: About): Promise<RunFacts> {
  const { verb, table, values } = about;
  const shown = withoutSecrets(table, values);
  const inputs = await inputsBy({ ...about, values: shown });
  const settings = Object.entries(shown).filter(([key]) => Object.hasOwn(table, key) && !isOfOutput(key));
  return {
    verb,
    webrlhf: VERSION,
    adapter: adapterName(),
    settings: Object.fromEntries(settings.map(([key, value]) => [snakeCase(key), value])),
    inputs: await hashed(inputs),
    parents: await parentsOf(inputs),
  };
}

/**
 * Refuses to write where something is read: the output would replace its own input.
 * @throws UserError naming the setting
 */
export async function refuseInputs(about: About, output: string): Promise<void> {
  const { values, around = {} } = about;
  const files = await filesOf(around);
  const real = async (path: string, of: Files = files) => (of.real ? of.real(path) : absolute(path));
  const target = await real(output);
  const overwrite = (values as { overwriteOutputDir?: boolean }).overwriteOutputDir ?? false;
  for (const { setting, at } of await inputsBy(about)) {
    const path = at && (await real(at.path, at.files));
    if (path === null) continue;
    const inside = path.startsWith(`${target}/`) ? path.slice(target.length + 1).split("/")[0] : null;
    if (path !== target && !(overwrite && inside !== null && isReplaced(inside))) continue;
    throw new UserError(`${output} is read by this run, as ${setting}: choose another place for the output`);
  }
}

/** What is read by what the settings say. */
async function inputsBy({ table, values, around = {}, inputs }: About): Promise<FoundInput[]> {
  if (inputs) return inputs();
  return inputsOf(table, values, await filesOf(around), await modelsIn(table, values, around));
}

/** Where the models are that settings name, and the bases of adapters among them; what is not there yet is left out. */
async function modelsIn(table: SettingsTable, values: object, around: Surroundings): Promise<Map<string, Located>> {
  const opener = new ModelOpener({ ...values, ...around, offline: true });
  const found = new Map<string, Located>();
  const look = async (name: string): Promise<void> => {
    const at = await opener.locate(name);
    if ((await at.files.list(at.path)).length === 0) return;
    found.set(name, at);
    const adapter = await readAdapterFolder(at.files, at.path);
    const base = adapter && opener.basePath(adapter);
    if (base && !found.has(base)) await look(base);
  };
  for (const [key, { kind }] of Object.entries(table)) {
    const value = (values as Record<string, unknown>)[key];
    if (kind !== "path" || isOfOutput(key) || typeof value !== "string") continue;
    await look(value).catch(() => {}); // whoever opens it says what is wrong with it
  }
  return found;
}
