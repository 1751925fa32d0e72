/** Rotary position embedding, in Hugging Face's pairing: column i turns with column i + D/2. */
import { caps, onClose } from "../../gpu/device.ts";
import { type Kernel, kernel, type Prepared, prepare } from "../../gpu/kernel.ts";
import { createBuffer } from "../../gpu/pool.ts";
import { runPrepared } from "../../gpu/stream.ts";
import { ROPE_INTO_CODES } from "../../shaders/kv-codes.wgsl.ts";
import { HIGH, LOW, ROPE, ROPE_IN_PLACE, ROPE_INTO_CACHE } from "../../shaders/rope.wgsl.ts";
import { borrow, empty, record, type Tensor } from "../core.ts";
import { type CachePlaces, checkPlaces, kvCacheWrite } from "./kvcache.ts";

/** Heads whose queries and keys are rotated, and by which angles. */
export interface RopeOptions {
  heads: number;
  kvHeads: number;
  /** D, a multiple of 4. */
  headDim: number;
  /** Base of the wavelengths where `frequencies` are not given. Default 10000. */
  theta?: number;
  /**
   * Radians per position of each pair, at most D/2: columns i and i + length turn together, those beyond stay. The angles
   * are tabled once per array object. Default theta^(-2i/D) for all D/2 pairs.
   */
  frequencies?: Float32Array;
  /** Factor on the rotated columns. Default 1. */
  magnitude?: number;
  /** Where the positions end, if known: refused beyond 131,072 instead of computed wrongly. */
  maxPositions?: number;
}

const WG = 64;

/** The longest sequence whose positions can be rotated. */
export const MAX_ROPE_POSITIONS: number = LOW * HIGH;

const ropeKernel = kernel({
  name: "rope",
  code: ROPE,
  bindings: { x: "read V", positions: "read u32", angles: "read F", y: "write V" },
  scalars: { n: "u32", rotated: "u32", heads: "u32", sign: "f32" },
});

const inPlaceKernel = kernel({
  name: "rope_in_place",
  code: ROPE_IN_PLACE,
  bindings: { positions: "read u32", angles: "read F", y: "write V" },
  scalars: { n: "u32", rotated: "u32", heads: "u32", sign: "f32" },
});

const intoCache = {
  bindings: {
    x: "read V",
    positions: "read u32",
    angles: "read F",
    y: "write V",
    slots: "read u32",
    keys: "write KV",
    values: "write KV",
  },
  scalars: { n: "u32", rotated: "u32", heads: "u32", sign: "f32", slots: "u32", capacity: "u32" },
} as const;
const intoCacheKernel = kernel({ name: "rope_into_cache", code: ROPE_INTO_CACHE, ...intoCache });
const intoCodesKernel = kernel({ name: "rope_into_codes", code: ROPE_INTO_CODES, ...intoCache });

/**
 * Turns each pair (i, i + D/2) of every query and key head by position * theta^(-2i/D); values pass unchanged. With
 * `frequencies`, only their columns turn, at their speeds.
 * @param qkv [N, (heads + 2 kvHeads) * D]
 * @param positions u32 [N], below 131,072
 */
export function rope(qkv: Tensor, positions: Tensor, options: RopeOptions): Tensor {
  return rotate(qkv, positions, options);
}

/** Up to so many rows CPU adapters gain by one dispatch less; with more, stores that only some lanes make cost them more. */
const FEW_ROWS = 8;

/** Whether rotating and writing to the cache are one dispatch here, for so many rows. The numbers are the same either way. */
export const rotatesIntoCache = (rows: number): boolean => caps().kind === "hardware" || rows <= FEW_ROWS;

/** `rope`, whose keys and values also go to a cache, as `kvCacheWrite` would write them. */
export function ropeIntoCache(qkv: Tensor, positions: Tensor, options: RopeOptions, cache: CachePlaces): Tensor {
  checkPlaces("rope", qkv, positions, cache, options);
  if (cache.keys.dtype !== "u32" || inOneDispatch(qkv, positions, options)) {
    return rotate(qkv, positions, options, cache);
  }
  const rotated = rotate(qkv, positions, options);
  kvCacheWrite(rotated, cache.keys, cache.values, cache.slots, positions, options);
  return rotated;
}

/** Codes are made of whole heads: an invocation for each is too little work to share but for few rows. */
const inOneDispatch = (qkv: Tensor, positions: Tensor, options: RopeOptions): boolean =>
  positions.size <= FEW_ROWS && kernelsFor(qkv, options, angleTable(options)).intoCache.u32 !== null;

function rotate(qkv: Tensor, positions: Tensor, options: RopeOptions, cache?: CachePlaces): Tensor {
  const table = checkRows(qkv, positions, options);
  const y = turn(qkv, positions, options, table, 1, cache);
  return record("rope", [qkv], y, (dy) => [turn(dy, positions, options, table, -1)]);
}

/** Refuses rows that do not fit; returns the angles. */
function checkRows(qkv: Tensor, positions: Tensor, options: RopeOptions): Tensor {
  const { heads, kvHeads, headDim } = options;
  const width = (heads + 2 * kvHeads) * headDim;
  if (headDim % 4 !== 0) throw new Error(`rope: head dimension ${headDim} is not a multiple of 4`);
  const table = angleTable(options);
  if (positions.dtype !== "u32" || qkv.size !== positions.size * width) {
    throw new Error(`rope: qkv must be [${positions.size}, ${width}] for u32 positions, not [${qkv.shape}]`);
  }
  if ((options.maxPositions ?? 0) > MAX_ROPE_POSITIONS) {
    throw new Error(`rope: angles are tabled for ${MAX_ROPE_POSITIONS} positions, not ${options.maxPositions}`);
  }
  return table;
}

/** `rope` that overwrites its input, or its reverse, which gives the gradient. Not recorded. */
export function ropeInPlace(qkv: Tensor, positions: Tensor, options: RopeOptions, sign: 1 | -1 = 1): void {
  const table = checkRows(qkv, positions, options);
  const { heads, kvHeads } = options;
  const { HALF, inPlace } = kernelsFor(qkv, options, table);
  const n = positions.size * HALF;
  const scalars = [n, heads + kvHeads, heads + 2 * kvHeads, sign];
  runPrepared(inPlace, [positions.view, table.view, qkv.view], scalars, Math.ceil(n / WG));
}

/** Columns of a head and of its rotated half in vectors, and the kernels for them. */
interface Widths {
  HALF: number;
  WIDTH: number;
  fresh: Prepared;
  inPlace: Prepared;
  /** By the type of the cache; null where heads are no vectors of 4, of which codes are made. */
  intoCache: { f32: Prepared; f16: Prepared; u32: Prepared | null };
}

const prepared = new Map<number, Widths>();

/** Vectors are as wide as divides both the rotated half of a head and the rest of it. */
function kernelsFor({ dtype: T }: Tensor, { headDim }: RopeOptions, table: Tensor): Widths {
  const half = table.shape[1] / 2;
  const key = (headDim * 4096 + half) * 2 + (T === "f16" ? 1 : 0);
  let found = prepared.get(key);
  if (!found) {
    const lanes = [4, 2, 1].find((n) => half % n === 0 && (headDim - 2 * half) % n === 0) as number;
    const vector = (type: string) => (lanes === 1 ? type : `vec${lanes}<${type}>`);
    const [HALF, WIDTH] = [half / lanes, headDim / lanes];
    const consts = { T, V: vector(T), F: vector("f32"), HALF, WIDTH, LOW, HIGH, WG };
    const of = (k: Kernel, KV?: string) => prepare(k, { ...consts, ...(KV && { KV }) });
    const intoCache = {
      f32: of(intoCacheKernel, vector("f32")),
      f16: of(intoCacheKernel, vector("f16")),
      u32: lanes === 4 ? of(intoCodesKernel, "u32") : null,
    };
    found = { HALF, WIDTH, fresh: of(ropeKernel), inPlace: of(inPlaceKernel), intoCache };
    prepared.set(key, found);
  }
  return found;
}

/** cos and sin of the angles that an invocation composes, f32 [LOW + HIGH, 2 * rotated pairs]; kept for the next call. */
export function angleTable({ headDim, theta, frequencies, magnitude }: RopeOptions): Tensor {
  const speeds = frequencies ?? powers(headDim, theta ?? 10000);
  if (speeds.length < 1 || speeds.length > headDim / 2) {
    throw new Error(`rope: ${speeds.length} frequencies for heads of ${headDim} columns`);
  }
  return angles(speeds, magnitude ?? 1);
}

function turn(
  x: Tensor,
  positions: Tensor,
  options: RopeOptions,
  table: Tensor,
  sign: number,
  cache?: CachePlaces,
): Tensor {
  const { heads, kvHeads } = options;
  const { HALF, WIDTH, fresh, intoCache } = kernelsFor(x, options, table);
  const y = empty(x.shape, x.dtype, "rope");
  const buffers = [x.view, positions.view, table.view, y.view];
  const coded = cache?.keys.dtype === "u32";
  const n = positions.size * (coded ? heads + 2 * kvHeads : WIDTH - HALF);
  const scalars = [n, heads + kvHeads, heads + 2 * kvHeads, sign];
  const groups = Math.ceil(n / WG);
  if (!cache) runPrepared(fresh, buffers, scalars, groups);
  else {
    const { keys, values, slots } = cache;
    const [count, capacity] = keys.shape;
    const places = [slots.view, keys.view, values.view];
    const by = intoCache[keys.dtype] as Prepared;
    runPrepared(by, [...buffers, ...places], [...scalars, count, capacity], groups);
  }
  return y;
}

const known = new Map<string, Float32Array>();

/** theta^(-2i/D), the same object for the same arguments. Transformers keeps the frequencies in f32. */
function powers(headDim: number, theta: number): Float32Array {
  const key = `${headDim} ${theta}`;
  const half = headDim / 2;
  const found = known.get(key) ?? Float32Array.from({ length: half }, (_, i) => theta ** (-i / half));
  known.set(key, found);
  return found;
}

const tables = new Map<Float32Array, Map<number, Tensor>>();
onClose({
  forget: () => tables.clear(),
  setAside() {
    const kept = [...tables];
    return () => {
      for (const [frequencies, table] of kept) tables.set(frequencies, table);
    };
  },
});

/**
 * cos and sin of positions 0..LOW-1 times `magnitude`, then of the multiples of LOW: f32 [LOW + HIGH, 2 half], computed
 * in float64.
 */
function angles(frequencies: Float32Array, magnitude: number): Tensor {
  const mine = tables.get(frequencies) ?? new Map<number, Tensor>();
  tables.set(frequencies, mine);
  const found = mine.get(magnitude);
  if (found) return found;
  const half = frequencies.length;
  const data = new Float32Array((LOW + HIGH) * 2 * half);
  for (let e = 0; e < LOW + HIGH; e++) {
    const position = e < LOW ? e : (e - LOW) * LOW;
    const factor = e < LOW ? magnitude : 1;
    for (let i = 0; i < half; i++) {
      const angle = position * frequencies[i];
      data[e * 2 * half + i] = factor * Math.cos(angle);
      data[e * 2 * half + half + i] = factor * Math.sin(angle);
    }
  }
  const buffer = createBuffer(data.byteLength, "rope angles");
  const table = borrow(buffer, [LOW + HIGH, 2 * half], "f32", "rope angles");
  table.write(data);
  mine.set(magnitude, table);
  return table;
}
