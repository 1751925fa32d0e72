/** What webrlhf makes of a file, as the text that the reference readers give as well. */

import { parseSafetensors, type RawTensor } from "webrlhf";
import { readRows, Tokenizer } from "webrlhf/data";
import { type DecoderConfig, fromHfConfig } from "webrlhf/nn";
import { parquetRows } from "../../src/data/parquet.ts";
import { readGgufHeader } from "../../src/io/gguf.ts";
import { parseJson } from "../../src/runtime/files.ts";
import { bytesFile } from "../../src/runtime/open.ts";
import { canonical } from "./canonical.ts";
import { configCase } from "./config-cases.ts";
import { ggufCase } from "./gguf-cases.ts";
import { jsonlCase } from "./jsonl-cases.ts";
import { parquetCase } from "./parquet-cases.ts";
import { safetensorsCase } from "./safetensors-cases.ts";
import { TEXTS, tokenizerCase } from "./tokenizer-cases.ts";

/** A kind of file: its cases by number, and how one is read. */
export interface Kind {
  make(seed: number): Uint8Array;
  read(bytes: Uint8Array): Promise<string> | string;
  /** What the reference reader must know besides. */
  argument?: string;
}

export const KINDS: Readonly<Record<string, Kind>> = {
  safetensors: { make: safetensorsCase, read: readSafetensors },
  parquet: { make: parquetCase, read: readParquet },
  gguf: { make: ggufCase, read: readGguf },
  tokenizer: { make: tokenizerCase, read: readTokenizer, argument: JSON.stringify(TEXTS) },
  config: { make: configCase, read: readConfig },
  jsonl: { make: jsonlCase, read: readJsonl },
};

function readSafetensors(bytes: Uint8Array): string {
  const file = parseSafetensors(bytes, "x.safetensors");
  const tensors = file.names.toSorted().map((name) => {
    const { dtype, shape, data }: RawTensor = file.getRaw(name);
    return [name, dtype, shape, new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength)];
  });
  return canonical(tensors);
}

async function readParquet(bytes: Uint8Array): Promise<string> {
  const rows = [];
  for await (const { value } of parquetRows(bytesFile(bytes), "x.parquet")) rows.push(value);
  return canonical(rows);
}

async function readGguf(bytes: Uint8Array): Promise<string> {
  const header = await readGgufHeader(bytesFile(bytes), "x.gguf");
  const tensors = [...header.tensors].map(([name, { type, shape, begin, end }]) => [
    name,
    type.name,
    shape,
    type.decode(bytes.subarray(begin, end)),
  ]);
  return canonical({ metadata: Object.fromEntries(header.metadata), tensors: tensors.sort() });
}

function readTokenizer(bytes: Uint8Array): string {
  const json = parseJson(bytes, "tokenizer.json");
  const tokenizer = Tokenizer.fromJson(json);
  const rows = TEXTS.map((text) => {
    const ids = tokenizer.encode(text);
    const around = tokenizer.encode(text, { addSpecialTokens: true });
    if (hasNormalized(json)) return [ids, around];
    return [ids, around, tokenizer.decode(ids, { skipSpecialTokens: false }), tokenizer.decode(ids)];
  });
  return canonical(rows);
}

/** The Rust library decodes such a token to its normalized form, and takes that for no special token. */
function hasNormalized(json: Record<string, unknown>): boolean {
  const tokens = json.added_tokens as { special?: unknown; normalized?: unknown }[];
  return Boolean(json.normalizer) && tokens.some(({ normalized }) => normalized);
}

/** What is computed, as far as a config says it; numbers that were computed are rounded. */
function readConfig(bytes: Uint8Array): string {
  const c: DecoderConfig = fromHfConfig(parseJson(bytes, "config.json"), "config.json");
  const rounded = (x: number) => Number(x.toPrecision(9));
  const scaling = (c.ropeScaling && { ...c.ropeScaling }) as Record<string, unknown> | null;
  if (scaling?.type === "yarn") scaling.attentionFactor = rounded(scaling.attentionFactor as number);
  const layers = Array.from({ length: c.layers }, (_, i) => {
    const local = c.slidingLayers[i] && c.localRopeTheta !== null;
    const rope = {
      theta: local ? c.localRopeTheta : c.ropeTheta,
      fraction: c.ropeFraction,
      scaling: local ? null : scaling,
    };
    const window = c.slidingLayers[i] ? c.slidingWindow : null;
    return { window, rope: c.positions === "rotary" && c.ropeLayers[i] ? rope : null };
  });
  const { vocabSize, hiddenSize, heads, kvHeads, headDim, intermediateSize, maxPositions, normEps, activation } = c;
  const { parallelResidual, mlpBias, qkvBias, outBias, attentionSoftcap, logitSoftcap, tieEmbeddings } = c;
  return canonical({
    family: c.family,
    sizes: [vocabSize, hiddenSize, heads, kvHeads, headDim, intermediateSize, maxPositions],
    normEps,
    activation,
    biases: [mlpBias, qkvBias, outBias],
    parallelResidual,
    attentionScale: rounded(c.attentionScale),
    softcaps: [attentionSoftcap, logitSoftcap],
    tieEmbeddings,
    ends: [c.bosId, c.eosIds, c.padId],
    layers,
  });
}

/** The rows, out of a stream whose pieces end anywhere. */
async function readJsonl(bytes: Uint8Array): Promise<string> {
  const stream = () =>
    new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < bytes.length; at += 7) controller.enqueue(bytes.slice(at, at + 7));
        controller.close();
      },
    });
  const rows = [];
  for await (const { value } of readRows({ name: "x.jsonl", stream })) rows.push(value);
  return canonical(rows);
}
