/** Command lines as the program reads them, without what they do. */

import { type Context, defineVerb } from "webrlhf/cli";
import { commandOf, normaliseFlags } from "../../src/cli/flags.ts";
import { loadVerb, optionOwners } from "../../src/cli/verbs/index.ts";
import { silentTerminal } from "./terminal.ts";

/** Settings of a command line and what it printed. Throws what the program would print as an error. */
export async function parsed(words: readonly string[]): Promise<{ values: Record<string, unknown>; told: string }> {
  const [name, ...rest] = normaliseFlags(words);
  const verb = await loadVerb(name);
  if (!verb) throw new Error(`there is no verb ${name}`);
  let values: Record<string, unknown> = {};
  const run = async (o: object) => {
    values = { ...o };
  };
  const terminal = silentTerminal();
  const context: Context = { terminal, signal: new AbortController().signal, label: name, resume: false };
  await commandOf(defineVerb({ ...verb, product: undefined, run } as never), () => context, optionOwners)
    .exitOverride()
    .parseAsync(rest, { from: "user" });
  return { values, told: terminal.written.join("") };
}
