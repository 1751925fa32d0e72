/** Opens the tiny models of the fixtures as the folders that transformers writes, and reads gradients under file names. */

import { memoryFiles, writeSafetensors } from "webrlhf";
import {
  type FileTensor,
  type HeadKind,
  loadCausalLM,
  loadScoreModel,
  type Model,
  type WeightFormat,
} from "webrlhf/nn";
import { fileTensors } from "../../src/nn/huggingface.ts";
import { readChunks } from "../../src/tensor/params.ts";
import { type FixtureArray, values } from "../fixture.ts";

export interface ReferenceModel {
  architecture: string;
  config: Record<string, unknown>;
  weights: Record<string, FixtureArray>;
  /** Token ids of each sequence. */
  ids: number[][];
  loss: number;
  gradients: Record<string, FixtureArray>;
}

export interface ReferenceLM extends ReferenceModel {
  /** Per sequence, [tokens, vocabulary]. */
  logits: FixtureArray[];
  /** Per sequence, of tokens 1... given those before. */
  logProbs: FixtureArray[];
  prompts: number[][];
  /** The most probable token after each prompt, 12 times over; the end token does not stop it. */
  greedy: number[][];
  greedyLogProbs: FixtureArray[];
}

export interface ReferenceScorer extends ReferenceModel {
  /** Score of each sequence's last token. */
  scores: FixtureArray;
  /** Score of every token, per sequence. */
  values: FixtureArray[];
  /** The loss is the sum of coefficient x score. */
  coefficients: number[];
}

/** The folder in memory, under the name "model". */
async function folder({ config, weights }: ReferenceModel) {
  const files = memoryFiles();
  const tensors = Object.entries(weights).map(([name, a]) => [
    name,
    { shape: a.shape, data: values(a) as Float32Array },
  ]);
  await files.writeFolder("model", {
    "config.json": JSON.stringify(config),
    "model.safetensors": writeSafetensors(Object.fromEntries(tensors)),
  });
  return files;
}

export const openLM = async (reference: ReferenceModel, format?: WeightFormat) =>
  loadCausalLM(await folder(reference), "model", "model", format);
export const openScorer = async (reference: ReferenceModel) => loadScoreModel(await folder(reference), "model");

/** The accumulated gradients, cut and transposed as the tensors of the file are. */
export async function fileGradients(model: Model, head: HeadKind): Promise<Map<string, Float32Array>> {
  const byParameter = model.store.split(await readChunks(model.store.gradients ?? []));
  const entries = fileTensors(model.config, head).map((t): [string, Float32Array] => {
    const parameter = model.store.parameters.find((p) => p.name === t.parameter);
    if (!parameter) throw new Error(`no parameter ${t.parameter}`);
    return [t.name, cut(byParameter.get(t.parameter) as Float32Array, parameter.shape, t)];
  });
  return new Map(entries);
}

function cut(all: Float32Array, shape: readonly number[], { rows, transposed, order }: FileTensor): Float32Array {
  const width = all.length / shape[0];
  if (order) return Float32Array.from(order.flatMap((row) => Array.from(all.subarray(row * width, (row + 1) * width))));
  const [first, last] = rows ?? [0, shape[0]];
  const part = all.slice(first * width, last * width);
  if (!transposed) return part;
  return part.map((_, i) => part[(i % (last - first)) * width + Math.floor(i / (last - first))]);
}
