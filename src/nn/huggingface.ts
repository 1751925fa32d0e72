/**
 * The one door between our models and Hugging Face's names. Inside, projections that read the same input are one matrix
 * and every weight is [out, in]; outside, families store them apart, transposed or interleaved: see families/.
 */
import type { DecoderConfig } from "./config.ts";
import { decoderConfig } from "./decoder-config.ts";
import type { Family, FileTensor, HeadKind } from "./families/family.ts";
import { isHarmless } from "./families/harmless.ts";
import { ConfigReader } from "./families/reader.ts";
import { familyNames, findFamily, headNameOf, headNames } from "./families/table.ts";
import { plainScoring, type Scoring, scoringFields } from "./scoring.ts";

export type { FileTensor, HeadKind };

/** Configs that were made or read have a family that is known. */
const familyOf = ({ family }: DecoderConfig): Family => findFamily(family) as Family;

/**
 * Every tensor of a model folder, in module order, the head last.
 * @param scoreBias the score head has a bias
 */
export function fileTensors(config: DecoderConfig, head: HeadKind, scoreBias = false): FileTensor[] {
  const family = familyOf(config);
  const { tensors, prefix } = family;
  // Files of the model without a head have no prefix.
  const all = tensors(config).map((t): FileTensor => ({ ...t, aliases: [t.name.slice(prefix.length)] }));
  if (head === "score") {
    all.push({ name: "score.weight", parameter: "score", aliases: ["score_head.weight"] });
    if (scoreBias) all.push({ name: SCORE_BIAS, parameter: "scoreBias", aliases: ["score_head.bias"] });
  } else if (!config.tieEmbeddings) {
    const name = headNameOf(family);
    all.push({ name, parameter: "head", aliases: headNames().filter((other) => other !== name) });
  }
  return all;
}

/** The name under which a file has a tensor, or null where it has none. */
export const nameIn = ({ name, aliases = [] }: FileTensor, file: { has(name: string): boolean }): string | null =>
  [name, ...aliases].find((n) => file.has(n)) ?? null;

/** Tensors that a file may carry besides: the other kind of head or a tied one, and buffers without weights. */
export const isExtra = (name: string): boolean =>
  headNames().includes(name) || /^score(_head)?\.(weight|bias)$/.test(name) || isStatistic(name) || isBuffer(name);

const SCORE_BIAS = "score.bias";

/** safe-rlhf keeps its normalizer's statistics here, and once more in config.json. */
const isStatistic = (name: string): boolean => /^normalizer\.(mean|var|count)$/.test(name);

const isBuffer = (name: string): boolean =>
  /(^|\.)(attn|attention)\.(attention\.)?((masked_)?bias|rotary_emb\.inv_freq)$|\.rotary_emb\.inv_freq$/.test(name);

/**
 * config.json for a model.
 * @param scoring and bias describe a score head
 */
export function toHfConfig(
  c: DecoderConfig,
  head: HeadKind,
  scoring: Scoring = plainScoring(),
  bias = false,
): Record<string, unknown> {
  const { classes, write } = familyOf(c);
  return {
    architectures: [classes[head]],
    model_type: c.family,
    vocab_size: c.vocabSize,
    tie_word_embeddings: c.tieEmbeddings,
    bos_token_id: c.bosId,
    eos_token_id: c.eosIds.length > 1 ? [...c.eosIds] : c.eosId,
    pad_token_id: c.padId,
    dtype: "float32",
    torch_dtype: "float32",
    ...(head === "score" && scoringFields(scoring, bias)),
    ...write(c),
  };
}

/** Fields that transformers insists on being written as floats, which JSON.stringify does not do with 30. */
const floats = new Set([
  "attn_logit_softcapping",
  "final_logit_softcapping",
  "rms_norm_eps",
  "layer_norm_eps",
  "layer_norm_epsilon",
  "rope_theta",
  "rope_local_base_freq",
  "rotary_pct",
  "partial_rotary_factor",
  "factor",
  "low_freq_factor",
  "high_freq_factor",
  "beta_fast",
  "beta_slow",
  "attention_factor",
]);

/** The text of config.json. */
export function configText(config: Record<string, unknown>): string {
  const marked = (key: string, value: unknown) =>
    floats.has(key) && Number.isInteger(value) ? `float ${value}` : value;
  return `${JSON.stringify(config, marked, 2).replace(/"float (-?\d+)"/g, "$1.0")}\n`;
}

/** Reads config.json. Throws `UserError` naming the field that is missing or not supported. */
export function fromHfConfig(json: Record<string, unknown>, file: string): DecoderConfig {
  const reader = new ConfigReader(json, file);
  const type = json.model_type;
  const family = findFamily(type);
  if (!family) {
    const known = familyNames().map((name) => JSON.stringify(name));
    const hint = type === "gemma3" ? " (Gemma 3 with vision; its text-only sizes are gemma3_text)" : "";
    return reader.fail(`model_type ${JSON.stringify(type)} is not supported${hint}; these are: ${known.join(", ")}`);
  }
  reader.only("quantization_config");
  const eosIds = reader.ids("eos_token_id");
  const shape = {
    family: family.modelType,
    bosId: reader.ids("bos_token_id")[0] ?? null,
    eosId: eosIds[0] ?? null,
    eosIds,
    padId: reader.ids("pad_token_id")[0] ?? null,
    ...family.read(reader),
  };
  const config = decoderConfig(shape, file);
  // What the family writes it knows, even where another field of this file made it of no account.
  const own = family.write(config);
  reader.refuseUnread((key) => Object.hasOwn(own, key) || isHarmless(key));
  return config;
}
