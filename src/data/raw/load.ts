/** Registered datasets as records: what the program's `dataset_name` does, for code. */
import { UserError } from "../../runtime/errors.ts";
import { type Entry, entriesOf, type Row } from "../readers.ts";
import { Reasons } from "../reasons.ts";
import type { DataRecord } from "../records.ts";
import type { SchemaOptions } from "../schemas.ts";
import { type Consumer, consume } from "./consumers.ts";
import type { LoadOptions } from "./dataset.ts";
import { lastOfEach, textsOf } from "./filters.ts";
import { MIXTURE_SEED, type MixtureMap, mixed, parseMixture } from "./mixture.ts";
import { streamSamples } from "./registry.ts";
import type { RawSample } from "./sample.ts";

/**
 * The rows that a consumer makes of a registered dataset.
 * @throws UserError where the consumer leaves out all of its samples
 */
export async function* consumedRows(
  name: string,
  consumer: Consumer | ((sample: RawSample) => Consumer),
  options: LoadOptions = {},
): AsyncGenerator<Row> {
  const reasons = new Reasons();
  let found = false;
  for await (const sample of streamSamples(name, options)) {
    const row = consume(sample, typeof consumer === "string" ? consumer : consumer(sample), name);
    if ("skip" in row) {
      reasons.add(row.skip);
      options.onSkip?.(sample.where ?? name, row.skip);
    } else {
      found = true;
      const { where: _, ...whole } = sample;
      yield { ...row, whole };
    }
  }
  if (!found) throw new UserError(`${name}: none of its samples can be used: ${reasons}`);
}

/**
 * The records of a mixture of registered datasets, part by part, each as much as its proportion asks for:
 * `loadMixture("PKU-SafeRLHF/train:0.5,my-pairs", "preference", { locate })`. Prompts come once, where they stand last.
 * @throws UserError naming dataset, row and field
 */
export async function loadMixture(
  mixture: string | MixtureMap,
  consumer: Consumer,
  options: Omit<LoadOptions, "path"> & SchemaOptions = {},
): Promise<DataRecord[]> {
  const parts = [];
  for (const part of parseMixture(mixture)) {
    const items: Entry[] = [];
    const rows = consumedRows(part.name, consumer, { ...options, path: part.path });
    for await (const entry of entriesOf(rows, part.name, options)) items.push(entry);
    parts.push({ ...part, items });
  }
  const records = mixed(parts, options.seed ?? MIXTURE_SEED).map(({ record }) => record);
  return consumer === "prompt" ? lastOfEach(records, (record) => textsOf(record).prompt) : records;
}
