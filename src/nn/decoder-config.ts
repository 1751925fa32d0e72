/** Configs of decoders by the conventions of their families. */
import { UserError } from "../runtime/errors.ts";
import { checkConfig, type DecoderConfig, type DecoderShape, MAX_LAYERS } from "./config.ts";
import type { Family } from "./families/family.ts";
import { ConfigReader } from "./families/reader.ts";
import { familyNames, findFamily } from "./families/table.ts";

/**
 * Completes a config with the family's defaults. Throws `UserError` naming the field that does not fit, or that the
 * family's files could not say.
 * @param where what messages start with
 */
export function decoderConfig(shape: DecoderShape, where = "model config"): DecoderConfig {
  const family = findFamily(shape.family);
  if (!family) {
    const known = familyNames().join(", ");
    throw new UserError(`${where}: family ${JSON.stringify(shape.family)} is unknown; these are known: ${known}`);
  }
  const { layers } = shape;
  if (!Number.isInteger(layers) || layers < 1 || layers > MAX_LAYERS) {
    throw new UserError(`${where}: layers must be a whole number from 1 to ${MAX_LAYERS}, not ${layers}`);
  }
  const config = complete(shape, family);
  checkConfig(config, where, family.squareAttention ?? false);
  checkFile(config, family, where);
  return config;
}

function complete(shape: DecoderShape, family: Family): DecoderConfig {
  const headDim = shape.headDim ?? shape.hiddenSize / shape.heads;
  const own = family.defaults({ ...shape, headDim });
  const everywhere = (value: boolean): boolean[] => new Array(shape.layers).fill(value);
  const { slidingWindow = own.slidingWindow ?? null, slidingLayers = own.slidingLayers ?? everywhere(true) } = shape;
  const eosId = shape.eosId ?? shape.eosIds?.[0] ?? null;
  return {
    kvHeads: shape.heads,
    intermediateSize: 4 * shape.hiddenSize,
    maxPositions: 1024,
    norm: "rms",
    normEps: 1e-6,
    normOffset: false,
    sandwichNorms: false,
    parallelResidual: false,
    activation: "silu",
    gated: false,
    mlpBias: false,
    qkvBias: false,
    outBias: false,
    qkNorm: false,
    attentionScale: 1 / Math.sqrt(headDim),
    attentionSoftcap: null,
    positions: "rotary",
    ropeTheta: 10000,
    ropeScaling: null,
    ropeFraction: 1,
    localRopeTheta: null,
    ropeLayers: everywhere(true),
    embedScale: 1,
    tieEmbeddings: true,
    logitSoftcap: null,
    bosId: null,
    padId: null,
    ...own,
    ...shape,
    headDim,
    slidingWindow,
    slidingLayers: slidingWindow === null ? everywhere(false) : slidingLayers,
    eosId,
    eosIds: shape.eosIds ?? (eosId === null ? [] : [eosId]),
  };
}

/** A model that could be trained but not saved would be a trap: what the family's config.json loses is refused. */
function checkFile(c: DecoderConfig, family: Family, where: string): void {
  const { bosId, eosId, eosIds, padId } = c;
  const json = { vocab_size: c.vocabSize, tie_word_embeddings: c.tieEmbeddings, ...family.write(c) };
  const read = family.read(new ConfigReader(json, where));
  const back = complete({ family: c.family, bosId, eosId, eosIds, padId, ...read }, family);
  for (const key of Object.keys(c) as (keyof DecoderConfig)[]) {
    const [is, was] = [back[key], c[key]];
    const same = typeof is === "number" && typeof was === "number" && Math.abs(is - was) <= 1e-12 * Math.abs(was);
    if (!same && canonical(is) !== canonical(was)) {
      throw new UserError(
        `${where}: ${c.family} models have ${key} = ${JSON.stringify(is)}, not ${JSON.stringify(was)}; ` +
          "another family may have it",
      );
    }
  }
}

const canonical = (value: unknown): string =>
  JSON.stringify(value && typeof value === "object" ? Object.entries(value).sort() : value);
