/** Options that say how the weights of models that are not trained are kept on the GPU. */
import { UserError } from "../../runtime/errors.ts";
import type { WeightFormat } from "../../tensor/quantize.ts";
import { options, type Table, type Values } from "../option.ts";

const precision = options("Precision");
const formats = ["float32", "bfloat16", "float16", "int8", "int4"] as const satisfies readonly WeightFormat[];

export const weightOptions = {
  dtype: precision.choice(
    formats,
    "float32",
    "How weights that are not trained are kept on the GPU: of models to sample from, and of bases under adapters; " +
      "embeddings and heads get more bits than int8 and int4 have",
    { aliases: ["torch_dtype"] },
  ),
  load_in_8bit: precision.bool(false, "The same as --dtype int8"),
  load_in_4bit: precision.bool(false, "The same as --dtype int4"),
} satisfies Table;

const overrides = ["auto", ...formats] as const;

export const rewardWeights = {
  reward_model_dtype: precision.choice(overrides, "auto", "How the reward model's weights are kept; auto is --dtype"),
} satisfies Table;

export const referenceWeights = {
  ref_model_dtype: precision.choice(overrides, "auto", "How the reference's weights are kept; auto is --dtype"),
} satisfies Table;

export type WeightChoice = Partial<Values<typeof weightOptions & typeof rewardWeights & typeof referenceWeights>>;

/** The format that `dtype` and its short forms ask for. Throws `UserError` when they contradict each other. */
export function weightFormat({ dtype = "float32", load_in_8bit, load_in_4bit }: WeightChoice): WeightFormat {
  const asked: { name: string; format: WeightFormat }[] = [];
  if (dtype !== "float32") asked.push({ name: `dtype ${dtype}`, format: dtype });
  if (load_in_8bit) asked.push({ name: "load_in_8bit", format: "int8" });
  if (load_in_4bit) asked.push({ name: "load_in_4bit", format: "int4" });
  const other = asked.find(({ format }) => format !== asked[0].format);
  if (other) throw new UserError(`${asked[0].name} and ${other.name} contradict each other: give one of them`);
  return asked[0]?.format ?? "float32";
}

/** Refuses to train weights that are kept in fewer bits. */
export function refuseTraining(choice: WeightChoice, path: string): void {
  const format = weightFormat(choice);
  if (format === "float32") return;
  throw new UserError(
    `${path} would be kept as ${format}, which cannot be trained: train an adapter on it with --use_peft, ` +
      "or train it whole without --dtype, --load_in_8bit and --load_in_4bit",
  );
}
