/** The sequences of a pass, checked: nothing that comes from the wire reaches the model unlooked at. */
import { ApiError } from "../errors.ts";
import type { Loss } from "./losses.ts";
import type { WireDatum, WireTensor } from "./wire.ts";

/** A sequence to learn from. */
export interface Example {
  ids: Uint32Array;
  /** What each token's row predicts, `width` of them, row by row. */
  targets: Uint32Array;
  width: number;
  /** The targets were given by rows and columns, and so their log-probabilities are given back. */
  matrix: boolean;
  /** What the loss needs, one number per target. */
  inputs: Record<string, Float32Array>;
}

/** What a model takes. */
export interface DataLimits {
  vocabSize: number;
  /** Tokens of one sequence. */
  context: number;
  /** Targets of all. */
  mostTargets: number;
}

/** Throws the first thing that is wrong, with the number of its sequence. */
export function examplesFrom(data: readonly WireDatum[], loss: Loss, lossFn: string, limits: DataLimits): Example[] {
  if (data.length === 0) throw new ApiError(400, "there is no data to pass over");
  let total = 0;
  return data.map((datum, i) => {
    const refuse = (why: string): never => {
      throw new ApiError(400, `datum ${i}: ${why}`);
    };
    const example = exampleFrom(datum, loss, lossFn, limits, refuse);
    total += example.targets.length;
    if (total > limits.mostTargets) {
      refuse(
        `with it the data have more than ${limits.mostTargets} targets (--max_request_tokens): send fewer at a time`,
      );
    }
    return example;
  });
}

type Refuse = (why: string) => never;

function exampleFrom(
  { ids, inputs }: WireDatum,
  loss: Loss,
  lossFn: string,
  { vocabSize, context }: DataLimits,
  refuse: Refuse,
): Example {
  if (ids.length === 0) refuse("model_input has no tokens");
  if (ids.length > context) refuse(`model_input has ${ids.length} tokens, and the model's context is ${context}`);
  const checkIds = (found: ArrayLike<number>, what: string) => {
    for (let i = 0; i < found.length; i++) {
      const id = found[i];
      if (!(Number.isInteger(id) && id >= 0 && id < vocabSize)) {
        refuse(`${what} holds ${id} at ${i}; ids are whole numbers below ${vocabSize}`);
      }
    }
  };
  checkIds(ids, "model_input");
  const targets = inputs.get("target_tokens") ?? refuse(`${lossFn} needs target_tokens`);
  const { shape } = targets;
  const count = shape.reduce((a, b) => a * b, 1);
  if (
    shape.length < 1 ||
    shape.length > 2 ||
    shape[0] !== ids.length ||
    count !== targets.values.length ||
    count === 0
  ) {
    refuse(
      `target_tokens has the shape [${shape}], and model_input has ${ids.length} tokens: each has one target, or one row of them`,
    );
  }
  checkIds(targets.values, "target_tokens");
  for (const name of inputs.keys()) {
    if (name === "target_tokens" || loss.needs.includes(name) || loss.may.includes(name)) continue;
    const known = [...loss.needs, ...loss.may].join(", ");
    refuse(`${lossFn} has no use for ${JSON.stringify(name.slice(0, 100))}; beside target_tokens it takes ${known}`);
  }
  const found: Record<string, Float32Array> = {};
  for (const name of [...loss.needs, ...loss.may]) {
    const values = inputs.get(name);
    if (!values && loss.needs.includes(name)) refuse(`${lossFn} needs ${name}`);
    if (values) found[name] = numbersOf(values, name, shape, refuse);
  }
  return {
    ids: Uint32Array.from(ids),
    targets: Uint32Array.from(targets.values),
    width: shape[1] ?? 1,
    matrix: shape.length === 2,
    inputs: found,
  };
}

function numbersOf(
  { values, shape }: WireTensor,
  name: string,
  wanted: readonly number[],
  refuse: Refuse,
): Float32Array {
  const count = wanted.reduce((a, b) => a * b, 1);
  if (`${shape}` !== `${wanted}` || values.length !== count) {
    refuse(`${name} has the shape [${shape}], and target_tokens has [${wanted}]`);
  }
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at >= 0) refuse(`${name} holds ${values[at]} at ${at}, which is no finite number`);
  return Float32Array.from(values);
}
