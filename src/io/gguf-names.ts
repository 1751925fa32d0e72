/**
 * Tensors of GGUF files under the names and in the layout of Hugging Face's models. Converters to GGUF rename everything
 * and rearrange some of it; each rearrangement is undone here.
 */

/** How a tensor of a GGUF file becomes the tensor of the model. */
export type Layout =
  | "same"
  /** Rows of each head go (pair, half) in the file and (half, pair) in the model: Llama's queries and keys. */
  | "unpair"
  /** The file holds all queries, all keys, all values; the model head by head: GPT-NeoX. */
  | "byHead"
  /** The file holds [out, in]; the model [in, out]: GPT-2. */
  | "transposed"
  /** The file holds 1 + weight: Gemma's norms. */
  | "minusOne";

/** The names of an architecture's tensors in GGUF, and what each is in the model. */
export interface GgufNames {
  /** Names outside the blocks, and of the blocks, without ".weight" and ".bias". */
  outside: Record<string, string>;
  /** The path of a block, "#" being its number. */
  block: string;
  inside: Record<string, string>;
  /** By the name in the model; default "same". */
  layout?(name: string): Layout;
}

const attention = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  attn_q_norm: "self_attn.q_norm",
  attn_k_norm: "self_attn.k_norm",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

export const qwen: GgufNames = {
  outside: { token_embd: "model.embed_tokens", output_norm: "model.norm", output: "lm_head" },
  block: "model.layers.#.",
  inside: attention,
};

export const llama: GgufNames = {
  ...qwen,
  layout: (name) => (/_proj/.test(name) && /\.[qk]_/.test(name) ? "unpair" : "same"),
};

export const gemma: GgufNames = { ...qwen, layout: (name) => (name.endsWith("norm.weight") ? "minusOne" : "same") };

export const gemma2: GgufNames = {
  ...gemma,
  inside: {
    ...attention,
    post_attention_norm: "post_attention_layernorm",
    ffn_norm: "pre_feedforward_layernorm",
    post_ffw_norm: "post_feedforward_layernorm",
  },
};

export const gpt2: GgufNames = {
  outside: {
    token_embd: "transformer.wte",
    position_embd: "transformer.wpe",
    output_norm: "transformer.ln_f",
    output: "lm_head",
  },
  block: "transformer.h.#.",
  inside: {
    attn_norm: "ln_1",
    attn_qkv: "attn.c_attn",
    attn_output: "attn.c_proj",
    ffn_norm: "ln_2",
    ffn_up: "mlp.c_fc",
    ffn_down: "mlp.c_proj",
  },
  layout: (name) => (/\.c_\w+\.weight$/.test(name) ? "transposed" : "same"),
};

export const gptneox: GgufNames = {
  outside: {
    token_embd: "gpt_neox.embed_in",
    output_norm: "gpt_neox.final_layer_norm",
    output: "embed_out",
  },
  block: "gpt_neox.layers.#.",
  inside: {
    attn_norm: "input_layernorm",
    attn_qkv: "attention.query_key_value",
    attn_output: "attention.dense",
    ffn_norm: "post_attention_layernorm",
    ffn_up: "mlp.dense_h_to_4h",
    ffn_down: "mlp.dense_4h_to_h",
  },
  layout: (name) => (name.includes("query_key_value") ? "byHead" : "same"),
};

/** The Hugging Face name of a tensor of the file, and how to lay it out; null for a name that the architecture lacks. */
export function hfTensor(names: GgufNames, ggml: string): { name: string; layout: Layout } | null {
  const { outside, block, inside, layout } = names;
  const match = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(ggml);
  if (!match) return null;
  const [, layer, part, kind] = match;
  const table = layer === undefined ? outside : inside;
  if (!Object.hasOwn(table, part)) return null;
  const name = `${layer === undefined ? "" : block.replace("#", layer)}${table[part]}.${kind}`;
  return { name, layout: layout?.(name) ?? "same" };
}

/** The name in the file of a tensor of the model, and how it is laid out; null for a name that the architecture lacks. */
export function ggmlTensor(names: GgufNames, hf: string): { name: string; layout: Layout } | null {
  const match = /^(.*)\.(weight|bias)$/.exec(hf);
  if (!match) return null;
  const [, path, kind] = match;
  const layer = /\.(\d+)\./.exec(path)?.[1];
  const prefix = layer === undefined ? "" : names.block.replace("#", layer);
  if (!path.startsWith(prefix)) return null;
  const table = layer === undefined ? names.outside : names.inside;
  const part = Object.keys(table).find((key) => table[key] === path.slice(prefix.length));
  if (part === undefined) return null;
  return { name: `${layer === undefined ? "" : `blk.${layer}.`}${part}.${kind}`, layout: names.layout?.(hf) ?? "same" };
}

/** Row i of the model's tensor is this row of the file's. */
export function rowInFile(layout: Layout, i: number, heads: number, rows: number): number {
  if (layout === "unpair") {
    const size = rows / heads;
    const [head, within] = [Math.floor(i / size), i % size];
    const half = size / 2;
    return head * size + (within % half) * 2 + Math.floor(within / half);
  }
  if (layout === "byHead") {
    const size = rows / (3 * heads);
    const [head, part] = [Math.floor(i / (3 * size)), Math.floor(i / size) % 3];
    return (part * heads + head) * size + (i % size);
  }
  return i;
}
