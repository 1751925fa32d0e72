/** The metadata of a GGUF file that tokenizer.json and tokenizer_config.json become: gguf-tokenizer.ts the other way round. */
import { UserError } from "../runtime/errors.ts";
import type { TokenizerFiles } from "./gguf-tokenizer.ts";
import { CONTROL, nameOfWords, UNKNOWN, USER_DEFINED } from "./gguf-tokenizer.ts";
import type { GgufField } from "./gguf-write.ts";
import { impliedMerges } from "./merges.ts";

type Json = Record<string, unknown>;

const NORMAL = 1;
const UNUSED = 5;
const BYTE = 6;
const SPACE = "▁";

interface Added {
  id: number;
  content: string;
  special: boolean;
}

interface Bpe {
  vocab: Record<string, number>;
  merges: [string, string][];
  unk: string | null;
}

/** Ids of tokens that the model's config names. */
export interface ModelTokens {
  readonly bosId: number | null;
  /** Every token that ends a text, the most important first. */
  readonly eosIds: readonly number[];
  readonly padId: number | null;
}

/**
 * The metadata of a tokenizer.
 * @param rows of the model's embeddings: ids without a token are filled up
 * @param model counts where the tokenizer has no such token
 * @param file where the tokenizer is from, for messages
 * @throws UserError where files of the format cannot say what the tokenizer does
 */
export function tokenizerMetadata(
  { json, config }: TokenizerFiles,
  rows: number,
  model: ModelTokens,
  file: string,
): Map<string, GgufField> {
  const fail = (what: string): never => {
    throw new UserError(`${file}: ${what}, which a GGUF file cannot say`);
  };
  const { vocab, merges, unk } = bpeOf(json, fail);
  const added = ((json.added_tokens ?? []) as Added[]).map(({ id, content, special }) => ({ id, content, special }));
  const isBytePiece = (json.model as Json).byte_fallback === true;
  const { tokens, kinds } = listed(vocab, added, rows, { unk, pieces: isBytePiece }, file);
  const out = new Map<string, GgufField>();
  const put = (key: string, field: GgufField) => out.set(`tokenizer.ggml.${key}`, field);
  put("model", isBytePiece ? "llama" : "gpt2");
  if (!isBytePiece) put("pre", nameOfWords(json) ?? fail(`it cuts text in a way (${shown(json)}) that has no name`));
  put("tokens", tokens);
  put("token_type", kinds);
  if (isBytePiece) {
    put("scores", scores(vocab, merges, rows, fail));
    put("add_space_prefix", spacePrefix(json, fail));
  } else {
    put(
      "merges",
      merges.map((pair) => pair.join(" ")),
    );
  }
  const idOf = (name: string): number | undefined => {
    const token = contentOf(config[`${name}_token`]);
    if (token === undefined) return undefined;
    return added.find(({ content }) => content === token)?.id ?? vocab[token];
  };
  const putId = (name: string, id: number | undefined) => id !== undefined && put(`${name}_token_id`, id);
  const ends = model.eosIds;
  const own = idOf("eos");
  const [eos = own, ...more] = own !== undefined && ends.includes(own) ? [own, ...ends.filter((e) => e !== own)] : ends;
  if (more.length > 2) fail(`${ends.length} tokens end a text`);
  putId("bos", idOf("bos") ?? model.bosId ?? undefined);
  putId("eos", eos);
  putId("eot", more[0]);
  putId("eom", more[1]);
  putId("unknown", idOf("unk") ?? (unk === null ? undefined : vocab[unk]));
  putId("padding", idOf("pad") ?? model.padId ?? undefined);
  const around = surroundings(json.post_processor, fail);
  put("add_bos_token", around ? around.before : config.add_bos_token === true);
  put("add_eos_token", around ? around.after : config.add_eos_token === true);
  const template = config.chat_template;
  if (typeof template === "string") out.set("tokenizer.chat_template", template);
  return out;
}

const contentOf = (token: unknown): string | undefined =>
  typeof token === "string" ? token : ((token as Json | null | undefined)?.content as string | undefined);

const shown = ({ normalizer, pre_tokenizer }: Json): string => {
  const text = JSON.stringify({ normalizer, pre_tokenizer });
  return text.length > 200 ? `${text.slice(0, 197)}...` : text;
};

function bpeOf(json: Json, fail: (what: string) => never): Bpe {
  const model = json.model as Json;
  if (model.type !== "BPE") return fail(`its model is ${JSON.stringify(model.type ?? null)} and not BPE`);
  if (model.continuing_subword_prefix || model.end_of_word_suffix) fail("its tokens carry a mark of their place");
  const merges = (model.merges as (string | [string, string])[]).map((merge): [string, string] => {
    if (typeof merge !== "string") return merge;
    const at = merge.indexOf(" ", 1);
    return [merge.slice(0, at), merge.slice(at + 1)];
  });
  if (merges.some(([left]) => left.includes(" "))) fail("its merges hold spaces");
  return { vocab: model.vocab as Record<string, number>, merges, unk: (model.unk_token as string | null) ?? null };
}

function listed(
  vocab: Record<string, number>,
  added: readonly Added[],
  rows: number,
  { unk, pieces }: { unk: string | null; pieces: boolean },
  file: string,
): { tokens: string[]; kinds: Int32Array } {
  const tokens = Array.from({ length: rows }, (_, id) => `[PAD${id}]`);
  const kinds = new Int32Array(rows).fill(UNUSED);
  const place = (id: number, token: string, kind: number) => {
    if (id >= rows) throw new UserError(`${file}: token ${JSON.stringify(token)} is ${id}, but the model has ${rows}`);
    tokens[id] = token;
    kinds[id] = kind;
  };
  for (const [token, id] of Object.entries(vocab)) {
    const isByte = pieces && /^<0x[0-9A-F]{2}>$/.test(token);
    place(id, token, isByte ? BYTE : pieces && token === unk ? UNKNOWN : NORMAL);
  }
  for (const { id, content, special } of added) {
    // Converters write a run of spaces as such, and not with the vocabulary's own sign for them.
    const text = pieces && !special && content in vocab ? content.replaceAll(SPACE, " ") : content;
    place(id, text, pieces && content === unk ? UNKNOWN : special ? CONTROL : USER_DEFINED);
  }
  return { tokens, kinds };
}

/** Scores that fall in the order of the merges: SentencePiece's rule then makes the same merges. */
function scores(
  vocab: Record<string, number>,
  merges: readonly [string, string][],
  rows: number,
  fail: (what: string) => never,
): Float32Array {
  const out = new Float32Array(rows).fill(-1e6);
  let last = 0;
  const seen = new Set<string>();
  for (const [left, right] of merges) {
    const token = left + right;
    if (seen.has(token)) continue;
    seen.add(token);
    out[vocab[token]] = -last++;
  }
  const found = new Map<string, number>();
  for (const [i, [left, right]] of impliedMerges(new Map(Object.entries(vocab)), out).entries()) {
    if (seen.has(left + right)) found.set(`${left} ${right}`, i);
  }
  if (!merges.every(([left, right]) => found.has(`${left} ${right}`))) fail("its merges follow from no scores");
  return out;
}

/** Whether a text begins as if a space came before it. */
function spacePrefix(json: Json, fail: (what: string) => never): boolean {
  const normalizers = flat(json.normalizer, "normalizers");
  const cutters = flat(json.pre_tokenizer, "pretokenizers");
  const spaces = ({ type, content, pattern }: Json) =>
    type === "Replace" && content === SPACE && (pattern as Json).String === " ";
  const prepends = ({ type, prepend }: Json) => type === "Prepend" && prepend === SPACE;
  const metaspace = cutters.find(({ type }) => type === "Metaspace");
  const known = normalizers.every((n) => spaces(n) || prepends(n)) && (normalizers.some(spaces) || metaspace);
  const whole = ({ type, behavior, split }: Json) =>
    (type === "Metaspace" && split === false) || (type === "Split" && behavior === "MergedWithPrevious");
  if (!known || !cutters.every(whole)) fail(`it prepares text in a way (${shown(json)}) that has no name`);
  return normalizers.some(prepends) || (metaspace !== undefined && metaspace.prepend_scheme !== "never");
}

const flat = (part: unknown, inside: string): Json[] => {
  if (!part) return [];
  const json = part as Json;
  return json.type === "Sequence" ? (json[inside] as Json[]).flatMap((one) => flat(one, inside)) : [json];
};

/** Whether tokens are put before and after a text; null where nothing says so. */
function surroundings(processor: unknown, fail: (what: string) => never): { before: boolean; after: boolean } | null {
  const template = flat(processor, "processors").find(({ type }) => type === "TemplateProcessing");
  if (!template) return null;
  const parts = (template.single as Json[]).map((part) => ("Sequence" in part ? "text" : "token"));
  const text = parts.indexOf("text");
  if (text > 1 || parts.length - text > 2) fail("it puts several tokens around a text");
  return { before: text === 1, after: parts.length - text === 2 };
}
