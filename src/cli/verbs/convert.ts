import { convertModel } from "../../nn/convert.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { convertOptions } from "../options/convert.ts";
import { defineVerb } from "../verb.ts";

export const convertVerb = defineVerb({
  name: "convert",
  summary: "Rewrite a model's files: another float type, shards, or a folder out of a GGUF file",
  options: convertOptions,
  examples: [
    "webrlhf convert --model_name_or_path out/sft --output_dir out/sft-bf16 --dtype bfloat16 --max_shard_size 500MB",
    "webrlhf convert --model_name_or_path model.Q4_K_M.gguf --output_dir out/model",
  ],
  async run(o, { terminal }) {
    const { dtype, tensors, files } = await convertModel(await diskFiles(), o.model_name_or_path!, o.output_dir, {
      ...(o.dtype !== "auto" && { dtype: o.dtype }),
      maxShardSize: parseSize(o.max_shard_size),
    });
    const shards = files.filter((name) => name.endsWith(".safetensors")).length;
    terminal.line(`${tensors} tensors as ${dtype} in ${shards} ${shards === 1 ? "file" : "files"} in ${o.output_dir}`);
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
