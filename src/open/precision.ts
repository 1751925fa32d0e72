/** How the weights of models are kept on the GPU, as options say it. */
import type { KvCacheFormat } from "../nn/cache.ts";
import { UserError } from "../runtime/errors.ts";
import { spelled } from "../settings/index.ts";
import type { WeightFormat } from "../tensor/quantize.ts";

/** Formats by name. */
export const weightFormats = [
  "float32",
  "bfloat16",
  "float16",
  "int8",
  "int4",
] as const satisfies readonly WeightFormat[];

/** A format that one model is to have; "auto" is the one for all. */
export type AskedFormat = WeightFormat | "auto";

/** Precision of the models of a run; names are those of the program's options. */
export interface PrecisionOptions {
  /** How weights that are not trained are kept: of models to sample from, and of bases under adapters. Default "float32". */
  dtype?: WeightFormat | undefined;
  /** The same as `dtype` "int8". */
  loadIn8bit?: boolean | undefined;
  /** The same as `dtype` "int4". */
  loadIn4bit?: boolean | undefined;
  /** How a reward model's weights are kept. Default "auto": as `dtype` says. */
  rewardModelDtype?: AskedFormat | undefined;
  /** How the reference's weights are kept. Default "auto": as `dtype` says. */
  refModelDtype?: AskedFormat | undefined;
  /** Compute in half precision: see `Model.half`. Default false. */
  fp16?: boolean | undefined;
  /** How keys and values are kept while tokens are sampled: see `Model.kvCache`. Default "auto". */
  kvCacheDtype?: KvCacheFormat | undefined;
}

/** The format that `dtype` and its short forms ask for. Throws `UserError` when they contradict each other. */
export function weightFormat(options: PrecisionOptions): WeightFormat {
  const { dtype = "float32", loadIn8bit, loadIn4bit } = options;
  const asked: { name: string; format: WeightFormat }[] = [];
  if (dtype !== "float32") asked.push({ name: `${spelled(options, "dtype")} ${dtype}`, format: dtype });
  if (loadIn8bit) asked.push({ name: spelled(options, "loadIn8bit"), format: "int8" });
  if (loadIn4bit) asked.push({ name: spelled(options, "loadIn4bit"), format: "int4" });
  const other = asked.find(({ format }) => format !== asked[0].format);
  if (other) throw new UserError(`${asked[0].name} and ${other.name} contradict each other: give one of them`);
  return asked[0]?.format ?? "float32";
}

/** Refuses to train weights that are kept in fewer bits. */
export function refuseTraining(options: PrecisionOptions, path: string): void {
  const format = weightFormat(options);
  if (format === "float32") return;
  throw new UserError(
    `${path} would be kept as ${format}, which cannot be trained: train an adapter on it with ` +
      `${spelled(options, "usePeft")}, or train it whole without ${spelled(options, "dtype")}, ` +
      `${spelled(options, "loadIn8bit")} and ${spelled(options, "loadIn4bit")}`,
  );
}
