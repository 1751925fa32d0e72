import { isGguf } from "../../io/model-files.ts";
import { convertModel } from "../../nn/convert.ts";
import { ggufTypes, writeGguf } from "../../nn/gguf.ts";
import { writeCard } from "../../open/model-card.ts";
import { ModelOpener } from "../../open/opener.ts";
import { openPush } from "../../open/push.ts";
import { pushSettings } from "../../open/push-settings.ts";
import { hubSettings, overwriting } from "../../open/settings.ts";
import { logging, model } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { effective, needs, settings, without } from "../../settings/index.ts";
import { surroundings } from "../surroundings.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const convertSettings = settings("convert", {
  modelNameOrPath: model.path(null, "Model folder or .gguf file", { required: true }),
  ...hubSettings,
  outputDir: logging.path("out/convert", "Folder to write, which must be new or empty", { effect: without("outfile") }),
  ...overwriting,
  dtype: model.choice(
    ["auto", "float32", "bfloat16", "float16"],
    "auto",
    "How to store the weights; auto keeps their type, and turns quantised ones into float32",
    { effect: without("outfile") },
  ),
  maxShardSize: model.text("5GB", "Split the weights into files of at most this size", { effect: without("outfile") }),
  outfile: logging.path(
    null,
    "A .gguf file to write instead, with tokenizer and chat template, for llama.cpp and its kin",
  ),
  ...effective(without("outfile"), pushSettings),
  outtype: model.choice(ggufTypes, "f16", "How the .gguf file stores matrices", { effect: needs("outfile") }),
});

export const convertVerb = defineVerb({
  name: "convert",
  summary: summaries.convert,
  settings: convertSettings,
  examples: [
    "webrlhf convert --model_name_or_path out/sft --output_dir out/sft-bf16 --dtype bfloat16 --max_shard_size 500MB",
    "webrlhf convert --model_name_or_path model.Q4_K_M.gguf --output_dir out/model",
    "webrlhf convert --model_name_or_path out/merged --outfile merged.gguf --outtype q8_0",
  ],
  endsAtOnce: true,
  product: (o) => (o.outfile ? { file: o.outfile } : { folder: o.outputDir }),
  async run(o, context) {
    if (o.outfile && !isGguf(o.outfile)) throw new UserError(`outfile must end with .gguf, not ${o.outfile}`);
    const { path } = await new ModelOpener({
      modelRevision: o.modelRevision,
      offline: o.offline,
      ...surroundings(context),
    }).locate(o.modelNameOrPath as string);
    if (o.outfile) {
      const { tensors, bytes, asF16 } = await writeGguf(await diskFiles(), path, o.outfile, o.outtype);
      context.terminal.line(`${tensors} tensors (${(bytes / 1e6).toFixed(1)} MB) as ${o.outtype} in ${o.outfile}`);
      if (asF16.length > 0) {
        context.terminal.line(
          `${asF16.length} matrices are f16, as their rows are no multiple of 32: ${asF16[0]}, ...`,
        );
      }
      return;
    }
    const disk = await diskFiles();
    const pusher = o.pushToHub ? await openPush(o.outputDir, o, surroundings(context)) : null;
    const { dtype, tensors, files } = await convertModel(disk, path, o.outputDir, {
      ...(o.dtype !== "auto" && { dtype: o.dtype }),
      maxShardSize: parseSize(o.maxShardSize),
    });
    const shards = files.filter((name) => name.endsWith(".safetensors")).length;
    context.terminal.line(
      `${tensors} tensors as ${dtype} in ${shards} ${shards === 1 ? "file" : "files"} in ${o.outputDir}`,
    );
    await writeCard(disk, o.outputDir, { verb: "convert", table: convertSettings.table });
    await pusher?.push();
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
