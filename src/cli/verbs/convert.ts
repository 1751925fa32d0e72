import { convertModel } from "../../nn/convert.ts";
import { ModelOpener } from "../../open/opener.ts";
import { hubSettings, overwriting } from "../../open/settings.ts";
import { logging, model } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { settings } from "../../settings/index.ts";
import { surroundings } from "../surroundings.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const convertSettings = settings("convert", {
  modelNameOrPath: model.path(null, "Model folder or .gguf file", { required: true }),
  ...hubSettings,
  outputDir: logging.path("out/convert", "Folder to write, which must be new or empty"),
  ...overwriting,
  dtype: model.choice(
    ["auto", "float32", "bfloat16", "float16"],
    "auto",
    "How to store the weights; auto keeps their type, and turns quantised ones into float32",
  ),
  maxShardSize: model.text("5GB", "Split the weights into files of at most this size"),
});

export const convertVerb = defineVerb({
  name: "convert",
  summary: summaries.convert,
  settings: convertSettings,
  examples: [
    "webrlhf convert --model_name_or_path out/sft --output_dir out/sft-bf16 --dtype bfloat16 --max_shard_size 500MB",
    "webrlhf convert --model_name_or_path model.Q4_K_M.gguf --output_dir out/model",
  ],
  endsAtOnce: true,
  product: (o) => ({ folder: o.outputDir }),
  async run(o, context) {
    const { path } = await new ModelOpener({
      modelRevision: o.modelRevision,
      offline: o.offline,
      ...surroundings(context),
    }).locate(o.modelNameOrPath as string);
    const { dtype, tensors, files } = await convertModel(await diskFiles(), path, o.outputDir, {
      ...(o.dtype !== "auto" && { dtype: o.dtype }),
      maxShardSize: parseSize(o.maxShardSize),
    });
    const shards = files.filter((name) => name.endsWith(".safetensors")).length;
    context.terminal.line(
      `${tensors} tensors as ${dtype} in ${shards} ${shards === 1 ? "file" : "files"} in ${o.outputDir}`,
    );
  },
});

const UNITS: Record<string, number> = {
  "": 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
};

/** Bytes of "500MB", "5 GB", "2GiB" or "1000000". */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = match ? UNITS[match[2].toUpperCase()] : undefined;
  const bytes = match && unit ? Math.floor(Number(match[1]) * unit) : 0;
  if (bytes > 0) return bytes;
  throw new UserError(`max_shard_size must be a size such as 500MB or 5GB, not ${JSON.stringify(text)}`);
}
