/** Which files of a repository are needed. */
import { UserError } from "../runtime/errors.ts";
import { parseJson } from "../runtime/files.ts";
import { chooseDataFiles } from "./dataset-card.ts";
import { isSafeName } from "./hub-client.ts";

/**
 * The files, where to look within the folder ("" is the folder itself), or why there is nothing to take.
 * `onlyOne`: it is taken because there is no other one, which a cache alone cannot tell.
 */
export type Wanted = { files: string[]; path: string; complete: boolean; onlyOne?: boolean } | { reason: string };

type Read = (name: string) => Promise<Uint8Array | null>;

const TOKENIZER = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"];
const SETTINGS = ["config.json", "generation_config.json"];
const INDEX = "model.safetensors.index.json";
/** As PyTorch writes weights: taken where there are no safetensors. */
const TORCH = "pytorch_model.bin";
const TORCH_INDEX = "pytorch_model.bin.index.json";
const ADAPTER = ["adapter_config.json", "adapter_model.safetensors"];

/**
 * "model": a full model, an adapter, or the one GGUF file of a repository that has nothing else.
 * @param file the GGUF file that is meant: its path or its quantization
 */
export async function modelFiles(
  names: readonly string[],
  read: Read,
  wanted: "model" | "tokenizer",
  id: string,
  file?: string,
): Promise<Wanted> {
  if (file !== undefined) return ggufFile(names, file, id);
  const there = (list: readonly string[]) => list.filter((name) => names.includes(name));
  const files = [...there(TOKENIZER)];
  if (wanted === "tokenizer" && files.includes("tokenizer.json")) return { files, path: "", complete: true };
  const gguf = names.filter((name) => name.endsWith(".gguf"));
  files.push(...there(SETTINGS));
  if (names.includes("model.safetensors")) files.push("model.safetensors");
  else if (names.includes(INDEX)) files.push(INDEX, ...(await shardsOf(names, read, id, INDEX)));
  else if (names.includes(TORCH)) files.push(TORCH);
  else if (names.includes(TORCH_INDEX)) files.push(TORCH_INDEX, ...(await shardsOf(names, read, id, TORCH_INDEX)));
  else if (ADAPTER.every((name) => names.includes(name))) files.push(...ADAPTER);
  else if (gguf.length === 1) return { files: gguf, path: gguf[0], complete: true, onlyOne: true };
  else if (gguf.length > 1 && wanted === "model") return { reason: whichGguf(gguf, id) };
  else {
    const others = names.filter((name) => /\.(gguf|bin|pt|pth|h5|onnx|msgpack)$/.test(name)).slice(0, 20);
    const has = others.length > 0 ? others.join(", ") : names.slice(0, 20).join(", ");
    const what =
      wanted === "model"
        ? "model.safetensors, no pytorch_model.bin, no index of shards, no adapter and not one .gguf file alone"
        : "tokenizer.json";
    return { reason: `${id}: the repository has no ${what}; it has ${has || "no files"}` };
  }
  if (wanted === "tokenizer") return { reason: `${id}: the repository has no tokenizer.json` };
  // A cached folder without one of these may only be half of the repository.
  const complete = files.includes("tokenizer.json") && (files.includes("config.json") || files.includes(ADAPTER[0]));
  return { files, path: "", complete };
}

/** A file's quantization as its name says it, "Q4_K_M" of "tiny-chat.Q4_K_M.gguf"; null where it says none. */
const quantizationOf = (name: string): string | null =>
  /(?:^|[-._/])((?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|T?Q\d_\d|BF16|F16|F32|FP16|FP32|MXFP4(?:_MOE)?))\.gguf$/i.exec(
    name,
  )?.[1] ?? null;

/** The GGUF file of a path or quantization. Files beside a model (images, drafts) and parts of one are no models. */
function ggufFile(names: readonly string[], file: string, id: string): Wanted {
  const all = names.filter((name) => name.endsWith(".gguf"));
  if (all.includes(file)) return { files: [file], path: file, complete: true };
  const models = all.filter((name) => !/(^|\/)mmproj/i.test(name));
  const found = models.filter((name) => quantizationOf(name)?.toLowerCase() === file.toLowerCase());
  if (found.length === 1) return { files: found, path: found[0], complete: true, onlyOne: true };
  if (found.length > 1) {
    return {
      reason: `${id}: ${found.length} files are ${file}: name one, as ${id}/${found[0]}; there are ${found.join(", ")}`,
    };
  }
  if (all.length === 0)
    return { reason: `${id}: the repository has no .gguf file, so ${JSON.stringify(file)} cannot be chosen` };
  return { reason: `${id} has no ${file.endsWith(".gguf") ? "" : "quantization "}${file}; ${whichGguf(all, id)}` };
}

function whichGguf(gguf: readonly string[], id: string): string {
  const [first] = gguf.map((name) => [name, quantizationOf(name)]).filter(([, of]) => of !== null);
  const ways = [...(first ? [`${id}:${first[1]}`] : []), `${id}/${gguf[0]}`].join(" or ");
  const more = gguf.length > 30 ? ` and ${gguf.length - 30} more` : "";
  return `the repository ${id} has ${gguf.length} GGUF files: say which one, as ${ways}; there are ${gguf.slice(0, 30).join(", ")}${more}`;
}

async function shardsOf(names: readonly string[], read: Read, id: string, index: string): Promise<string[]> {
  const bytes = await read(index);
  const map = bytes && parseJson<{ weight_map?: Record<string, unknown> }>(bytes, `${id}/${index}`).weight_map;
  if (!map || typeof map !== "object") throw new UserError(`${id}/${index} has no "weight_map"`);
  const shards = [...new Set(Object.values(map).map(String))];
  for (const name of shards) {
    if (!isSafeName(name))
      throw new UserError(`${id}/${index} names a shard ${JSON.stringify(name)} outside its folder`);
    if (!names.includes(name)) throw new UserError(`${id}/${index} needs ${name}, which is not there`);
  }
  return shards;
}

/** A dataset's card and the data files of a configuration's splits. */
export async function datasetFiles(
  names: readonly string[],
  read: Read,
  part: { config?: string | null; splits: readonly string[] },
  id: string,
): Promise<Wanted> {
  const card = names.includes("README.md") ? await read("README.md") : null;
  const text = card && new TextDecoder().decode(card);
  const chosen: string[][] = [];
  for (const split of part.splits) chosen.push(await chooseDataFiles(names, text, { config: part.config, split }, id));
  const files = [...new Set([...(card ? ["README.md"] : []), ...chosen.flat()])];
  // Of sharded files a cache may hold some only; names tell how many there are.
  const complete = chosen.every((list) => list.length > 0 && list.every((name) => allShards(name, names)));
  return { files, path: "", complete };
}

function allShards(name: string, names: readonly string[]): boolean {
  const match = /^(.*)-(\d{5})-of-(\d{5})(.*)$/.exec(name);
  if (!match) return true;
  const pattern = (n: number) => `${match[1]}-${String(n).padStart(5, "0")}-of-${match[3]}${match[4]}`;
  for (let n = 0; n < Number(match[3]); n++) if (!names.includes(pattern(n))) return false;
  return true;
}
