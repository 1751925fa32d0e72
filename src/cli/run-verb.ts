/** Runs a verb, with the record of what it writes. */
import { produce } from "../open/produce.ts";
import { surroundings } from "./surroundings.ts";
import type { Context, Verb } from "./verb.ts";

/** Runs a verb on values that its own settings resolved. Training verbs keep their records themselves. */
export async function runVerb(verb: Verb, values: object, context: Context): Promise<void> {
  const work = () => verb.run(values, context);
  const product = verb.product?.(values) ?? null;
  if (!product) return work();
  const inputs = verb.inputs && (() => verb.inputs!(values));
  const about = { verb: verb.name, table: verb.settings.table, values, around: surroundings(context), inputs };
  await produce(product, about, work);
}
