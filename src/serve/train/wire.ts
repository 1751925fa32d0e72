/**
 * The messages that a training client sends and reads as Protocol Buffers: the data of a pass over the model, its outputs,
 * and samples. Field numbers are those of the `tinker` package's definitions.
 */
import { type ProtoBytes, proto, protoFields } from "../../io/protobuf.ts";
import { joinedBytes } from "../../runtime/joined-bytes.ts";
import { ApiError } from "../errors.ts";

/** A tensor as it came: flat, row by row. */
export interface WireTensor {
  shape: readonly number[];
  values: Float32Array | Float64Array;
}

/** One sequence with what its loss needs. */
export interface WireDatum {
  ids: Int32Array;
  inputs: Map<string, WireTensor>;
}

/** A pass as it was asked for. */
export interface WirePass {
  lossFn: string;
  config: Map<string, number | string>;
  data: WireDatum[];
}

const broken = (): never => {
  throw new ApiError(400, "The request body is no whole protobuf message.");
};

type Value = number | Uint8Array;
const fields = (bytes: Uint8Array) => protoFields(bytes, broken);
const number = (value: Value): number => (typeof value === "number" ? value : broken());
const message = (value: Value): Uint8Array => (typeof value === "number" ? broken() : value);
const text = (value: Value): string => {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(message(value));
  } catch {
    return broken();
  }
};

/**
 * Whose pass it is, which of the model's requests, and whether it leaves gradients: what must be known before anything else is
 * looked at.
 */
export function passHead(bytes: Uint8Array): { modelId: string; seqId: number; forwardOnly: boolean } {
  let [modelId, seqId, forwardOnly] = ["", 0, false];
  for (const { field, value } of fields(bytes)) {
    if (field === 1) modelId = text(value);
    if (field === 2) seqId = number(value);
    if (field === 6) forwardOnly = number(value) !== 0;
  }
  return { modelId, seqId, forwardOnly };
}

/** Values that sparse tensors may still have when they are laid out: a few bytes of them could mean any number. */
interface Room {
  left: number;
}

/** Targets, and for each up to four numbers of the losses. */
const MOST_TENSORS = 5;

/**
 * Reads a pass.
 * @param mostTargets how many targets all of its data may have
 */
export function readPass(bytes: Uint8Array, mostTargets: number): WirePass {
  const pass: WirePass = { lossFn: "", config: new Map(), data: [] };
  const room: Room = { left: MOST_TENSORS * mostTargets };
  for (const { field, value } of fields(bytes)) {
    if (field === 3) pass.data.push(readDatum(message(value), room));
    else if (field === 4) pass.lossFn = text(value);
    else if (field === 5) {
      const [key, one] = entry(message(value));
      if (!pass.config.has(key)) pass.config.set(key, double(one));
    } else if (field === 7) {
      const [key, one] = entry(message(value));
      for (const inner of fields(message(one))) {
        pass.config.set(key, inner.field === 2 ? text(inner.value) : double(inner.value));
      }
    }
  }
  return pass;
}

/** An entry of a map: its key and its value. */
function entry(bytes: Uint8Array): [string, Value] {
  let key = "";
  let found: Value = new Uint8Array();
  for (const { field, value } of fields(bytes)) {
    if (field === 1) key = text(value);
    if (field === 2) found = value;
  }
  return [key, found];
}

/** A double; zero is not written at all. */
function double(value: Value): number {
  const bytes = message(value);
  if (bytes.length === 0) return 0;
  return bytes.length === 8 ? new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0, true) : broken();
}

function readDatum(bytes: Uint8Array, room: Room): WireDatum {
  const parts: Int32Array[] = [];
  const inputs = new Map<string, WireTensor>();
  for (const { field, value } of fields(bytes)) {
    if (field === 1) parts.push(readChunk(message(value)));
    if (field === 2) {
      const [key, tensor] = entry(message(value));
      inputs.set(key, readTensor(message(tensor), room));
    }
  }
  const ids = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    ids.set(part, at);
    at += part.length;
  }
  return { ids, inputs };
}

function readChunk(bytes: Uint8Array): Int32Array {
  let ids = new Int32Array();
  for (const { field, value } of fields(bytes)) {
    if (field !== 1)
      throw new ApiError(400, "model_input holds a picture or sound: this server's models read tokens only");
    for (const inner of fields(message(value))) {
      if (inner.field === 1) ids = new Int32Array(aligned(message(inner.value), 4));
    }
  }
  return ids;
}

/** The bytes with a buffer of their own, in which typed arrays may stand. */
function aligned(bytes: Uint8Array, size: number): ArrayBuffer {
  if (bytes.length % size !== 0) broken();
  return new Uint8Array(bytes).buffer; // a Buffer's `slice` would be no copy
}

const [FLOAT32, INT64] = [1, 2];

/** Losses take a number for each token, or a row of them. */
const MOST_DIMENSIONS = 2;

function readTensor(bytes: Uint8Array, room: Room): WireTensor {
  let dtype = 0;
  let dense: Uint8Array | null = null;
  let sparse: Uint8Array | null = null;
  const shape: number[] = [];
  for (const { field, value } of fields(bytes)) {
    if (field === 1) dense = message(value);
    else if (field === 2) sparse = message(value);
    else if (field === 3) dtype = number(value);
    else if (field === 4) {
      for (const size of typeof value === "number" ? [value] : varints(value)) {
        if (shape.push(size) > MOST_DIMENSIONS) {
          throw new ApiError(
            400,
            `a tensor has more than ${MOST_DIMENSIONS} dimensions: each token has one number, or one row of them`,
          );
        }
      }
    }
  }
  if (dtype !== FLOAT32 && dtype !== INT64) throw new ApiError(400, "a tensor's dtype must be float32 or int64");
  const integers = dtype === INT64;
  const flat = (part: Uint8Array) => (integers ? int64s(part) : new Float32Array(aligned(part, 4)));
  if (!sparse) {
    const values = flat(dense ?? new Uint8Array());
    return { shape: shape.length > 0 ? shape : [values.length], values };
  }
  return { shape, values: laidOut(sparse, shape, flat, room) };
}

/** A sparse matrix, row by row with zeros in between. */
function laidOut(
  bytes: Uint8Array,
  shape: readonly number[],
  flat: (part: Uint8Array) => Float32Array | Float64Array,
  room: Room,
): Float32Array | Float64Array {
  const parts = new Map([...fields(bytes)].map(({ field, value }) => [field, message(value)]));
  const part = (field: number) => parts.get(field) ?? new Uint8Array();
  const [values, rows, columns] = [flat(part(1)), int64s(part(2)), int64s(part(3))];
  const wrong = (): never => {
    throw new ApiError(400, "a sparse tensor's rows, columns and values do not fit together");
  };
  if (shape.length !== 2 || rows.length !== shape[0] + 1 || columns.length !== values.length) wrong();
  const [height, width] = shape;
  room.left -= height * width;
  if (!(room.left >= 0)) {
    throw new ApiError(
      400,
      `with a sparse tensor of [${shape}] the data have more values than a request may (--max_request_tokens): send fewer at a time`,
    );
  }
  const all = values instanceof Float32Array ? new Float32Array(height * width) : new Float64Array(height * width);
  if (rows[0] !== 0 || rows[height] !== values.length) wrong();
  for (let row = 0; row < height; row++) {
    if (!(rows[row] <= rows[row + 1] && rows[row + 1] <= values.length)) wrong();
    for (let i = rows[row]; i < rows[row + 1]; i++) {
      if (!(columns[i] >= 0 && columns[i] < width)) wrong();
      all[row * width + columns[i]] = values[i];
    }
  }
  return all;
}

function int64s(bytes: Uint8Array): Float64Array {
  return Float64Array.from(new BigInt64Array(aligned(bytes, 8)), Number);
}

function* varints(bytes: Uint8Array): Generator<number> {
  let value = 0;
  let scale = 1;
  for (const byte of bytes) {
    value += (byte & 127) * scale;
    scale *= 128;
    if (byte >= 128) continue;
    yield value;
    value = 0;
    scale = 1;
  }
  if (scale > 1) broken();
}

const raw = (values: Float32Array | Int32Array | BigInt64Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** Outputs of a pass: of each sequence its tokens' log-probabilities, `widths` of them per token. */
export function writePassOutput(
  logProbs: readonly Float32Array[],
  widths: readonly (number | null)[],
  metrics: Readonly<Record<string, number>>,
): ProtoBytes {
  // Sequences of one width lie together; where widths differ, each begins a record of its own.
  const records: ProtoBytes[] = [];
  for (let first = 0; first < logProbs.length; ) {
    let last = first + 1;
    while (last < logProbs.length && widths[last] === widths[first]) last++;
    records.push(proto.message(2, ...record(logProbs.slice(first, last), widths[first])));
    first = last;
  }
  const told = Object.entries(metrics).map(([name, value]) =>
    proto.message(3, proto.text(1, name), proto.double(2, value)),
  );
  return joinedBytes([proto.text(1, "ArrayRecord"), ...records, ...told]);
}

function record(logProbs: readonly Float32Array[], width: number | null): ProtoBytes[] {
  const ends = [0];
  for (const { byteLength } of logProbs) ends.push((ends.at(-1) as number) + byteLength);
  const data = joinedBytes(logProbs.map(raw));
  const batched = [
    proto.bytes(1, data),
    proto.bytes(2, raw(BigInt64Array.from(ends, BigInt))),
    proto.int(3, FLOAT32),
    ...(width === null ? [] : [proto.ints(4, [width])]),
  ];
  const field = proto.message(2, proto.text(1, "logprobs"), proto.message(2, ...batched));
  return [proto.text(1, "ArrayRecord"), field, proto.int(3, logProbs.length)];
}

/** Most probable tokens at some places, `k` each; a place without any is filled with what clients know as nothing. */
export interface WireTop {
  k: number;
  places: readonly (readonly { id: number; logProb: number }[])[];
}

/** One sampled sequence. */
export interface WireSample {
  ids: readonly number[];
  logProbs: readonly number[];
  stopped: boolean;
  top: WireTop | null;
}

const NOTHING = -99999;

/** Samples, and what was asked of the prompt. A prompt's token without a log-probability has NaN. */
export function writeSamples(
  samples: readonly WireSample[],
  promptLogProbs: Float32Array | null,
  promptTop: WireTop | null,
): ProtoBytes {
  const sequences = samples.map(({ ids, logProbs, stopped, top }) =>
    proto.message(
      1,
      proto.int(1, stopped ? 0 : 1),
      proto.bytes(2, raw(Int32Array.from(ids))),
      proto.bytes(3, raw(Float32Array.from(logProbs))),
      ...(top ? [proto.message(4, ...topFields(top))] : []),
    ),
  );
  return proto.whole(
    ...sequences,
    ...(promptLogProbs ? [proto.bytes(2, raw(promptLogProbs))] : []),
    ...(promptTop ? [proto.message(3, ...topFields(promptTop))] : []),
  );
}

function topFields({ k, places }: WireTop): ProtoBytes[] {
  const ids = new Int32Array(places.length * k);
  const logProbs = new Float32Array(places.length * k).fill(NOTHING);
  for (const [place, best] of places.entries()) {
    for (const [i, { id, logProb }] of best.slice(0, k).entries()) {
      ids[place * k + i] = id;
      logProbs[place * k + i] = logProb;
    }
  }
  return [proto.bytes(1, raw(ids)), proto.bytes(2, raw(logProbs)), proto.int(3, k), proto.int(4, places.length)];
}
