/**
 * Which kernel runs: capabilities and shape in, variant and tile out. The first row that applies wins. Figures beside the
 * rows are GFLOP/s in f32 on 2 cores of an AMD EPYC unless another machine is named.
 */
import { MATRIX_ATTENTION_BYTES, matricesFit, matrixInvocations } from "../shaders/attention-matrix.wgsl.ts";
import { matrixBytes, matrixOutputs, SUBGROUPS } from "../shaders/matmul-matrix.wgsl.ts";
import type { Caps } from "./device.ts";
import type { MatrixSize } from "./found-adapter.ts";
import type { MatmulShape, MatmulVariant } from "./product.ts";
import type { KernelFamily } from "./self-tests.ts";
import { tunedVariant } from "./tuning.ts";

interface Row {
  when: (caps: Caps, shape: MatmulShape) => boolean;
  use: (caps: Caps, shape: MatmulShape) => MatmulVariant;
  why: string;
}

/** One subgroup per workgroup is only sound where the driver cannot choose another size. */
const lanewise = (caps: Caps): boolean =>
  caps.kind === "cpu" &&
  caps.subgroups &&
  caps.subgroupSize === caps.subgroupSizeMax &&
  caps.subgroupSize >= 4 &&
  caps.subgroupSize <= 32;

/** The adapter computes right values with these kernels, as far as is known. */
export const sound = ({ unsound }: Caps, family: KernelFamily): boolean => !unsound?.includes(family);

/** Columns per lane: 32 columns per subgroup of 4, 8 or 16, so that the unrolled text stays small enough to compile fast. */
const colsPerLane = (caps: Caps): number => Math.max(2, 32 / caps.subgroupSize);
const lanes = (rows: number, caps: Caps): MatmulVariant => ({
  family: "subgroup",
  rows,
  cols: colsPerLane(caps),
  lanes: caps.subgroupSize,
});

/** Large in every direction, so that a transpose is cheap beside the product, but not so large that it takes much memory. */
const square = ({ m, n, k }: MatmulShape): boolean => Math.min(m, n, k) >= 256 && Math.max(m, n) * k <= 4e6;

/** Where the adapter does not tell: about two workgroups for each of a large GPU's 130 cores. */
const SATURATING = 256;
const saturating = (caps: Caps): number => caps.saturating ?? SATURATING;
const groups = ({ m, n, batch }: MatmulShape, bm: number, bn: number): number =>
  Math.ceil(m / bm) * Math.ceil(n / bn) * batch;

/**
 * Splits of k that bring a small output up to a busy GPU, each at least 256 steps long (128 where few rows wait for memory).
 * Twice as many workgroups are not worth a dispatch that adds the parts up, except for a weight gradient: its k is so long
 * that four times as many as keep the device busy cost little more, and then the last of them do not run alone.
 */
function splits(caps: Caps, shape: MatmulShape, bm: number, bn: number): number {
  const gradient = shape.mode === "TN";
  const parts = Math.floor(((gradient ? 4 : 1) * saturating(caps)) / groups(shape, bm, bn));
  if (shape.k < 512 || parts < (gradient ? 2 : 3)) return 1;
  return Math.min(parts, Math.floor(shape.k / (shape.m <= 64 ? 128 : 256)), 64);
}

/** Up to so many rows: how many invocations share the rows of a tile, each with up to 8 of them, and how wide it is. */
const heights = [
  { upTo: 4, parts: 1, cols: 4, bn: 128 },
  { upTo: 9, parts: 2, cols: 4, bn: 64 },
  { upTo: 32, parts: 4, cols: 4, bn: 64 },
  { upTo: 64, parts: 8, cols: 4, bn: 64 },
  { upTo: 128, parts: 16, cols: 8, bn: 64 },
];
/** From so many rows on, tiles of all 128 rows compute little in vain, and there are fewer kernels to compile. */
const MANY_ROWS = 640;
/** Up to so many columns (the rank of an adapter), a tile is as narrow as they are. */
const NARROW = 48;

/** Tiles of equal height, as few rows as m allows: 128 at most, 64 where those would not keep the device busy. */
function tile(caps: Caps, shape: MatmulShape): Extract<MatmulVariant, { family: "tiled" }> {
  const { mode, m, n, k } = shape;
  const gradient = mode === "TN";
  const narrow = n <= NARROW;
  const most = narrow || groups(shape, 128, 64) < saturating(caps) ? 64 : 128;
  const high = m > MANY_ROWS ? most : Math.ceil(m / Math.ceil(m / most));
  const height = heights.find(({ upTo }) => high <= upTo) as (typeof heights)[number];
  const parts = narrow && high > 32 ? 16 : height.parts;
  // Rows of a gradient are read four at a time.
  const rows = gradient ? 4 * Math.ceil(high / parts / 4) : Math.ceil(high / parts);
  const cols = gradient && rows === 8 && parts === 8 ? 8 : height.cols;
  const bm = rows * parts;
  const small = k < 512 && cols === 4 && parts > 2 && groups(shape, bm, 64) < saturating(caps) / 4;
  const bn = narrow ? 16 * Math.ceil(n / 16) : small ? 32 : height.bn;
  const bk = cols === 8 ? 8 : 16; // 512 fma between barriers, which compilers still unroll
  return { family: "tiled", bm, bn, bk, rows, cols, splits: splits(caps, shape, bm, bn) };
}

/**
 * At most 8 x 8 matrices for a workgroup, half of that in each direction where those would not keep the device busy or would
 * not fit. Tiles are of equal height and as wide as leaves the least over. Subgroups lie two by two, or side by side where rows
 * are few or do not halve, or below each other where there are few columns.
 */
function matrix(caps: Caps, shape: MatmulShape): Extract<MatmulVariant, { family: "matrix" }> {
  const { m, n, k } = caps.matrices as NonNullable<Caps["matrices"]>;
  const along = { a: shape.mode !== "TN", b: shape.mode === "NT" };
  const lanes = caps.subgroupSizeMax;
  const tileOf = (most: number) => {
    if (shape.n <= 3 * n) return { m, n, k, lanes, rows: most / 4, cols: Math.ceil(shape.n / n), down: 4 };
    const high = Math.ceil(shape.m / m);
    const height = shape.m > MANY_ROWS ? most : Math.ceil(high / Math.ceil(high / most));
    const down = height % 2 === 0 && height >= 4 ? 2 : 1;
    const across = SUBGROUPS / down;
    const wide = Math.ceil(shape.n / (across * n));
    const widest = most / across;
    const narrower = Math.max(1, widest - 1);
    const left = (cols: number) => Math.ceil(wide / cols) * cols;
    const cols = left(narrower) < left(widest) ? narrower : widest;
    return { m, n, k, lanes, rows: height / down, cols, down };
  };
  const large = tileOf(8);
  const { bm, bn } = matrixOutputs(large);
  const fits = groups(shape, bm, bn) >= saturating(caps) / 2 && matrixBytes(large, along) <= caps.maxWorkgroupStorage;
  const tile = fits ? large : tileOf(4);
  const outputs = matrixOutputs(tile);
  return { family: "matrix", ...tile, splits: splits(caps, shape, outputs.bm, outputs.bn) };
}

/** Up to so many rows the tiles of matrix units may compute this much more than is asked for; with more, they gain in any case. */
const [FEW_FOR_MATRICES, MOST_EXCESS] = [256, 1.3];

function wastesMatrices(caps: Caps, shape: MatmulShape): boolean {
  if (shape.m > FEW_FOR_MATRICES) return false;
  const { bm, bn } = matrixOutputs(matrix(caps, shape));
  return groups({ ...shape, batch: 1 }, bm, bn) * bm * bn > MOST_EXCESS * shape.m * shape.n;
}

const table: Row[] = [
  {
    when: (caps, s) => lanewise(caps) && s.m === 1,
    use: (caps) => lanes(1, caps),
    why: "loads of B are the whole cost; more rows would only add fma and compile time",
  },
  {
    when: (caps, s) => lanewise(caps) && s.m <= 4,
    use: (caps) => lanes(4, caps),
    why: "as above",
  },
  {
    when: (caps, s) => lanewise(caps) && s.m <= 8,
    use: (caps) => lanes(8, caps),
    why: "one load of A brings 8 rows on lavapipe: batched decoding costs little more than one row",
  },
  {
    when: (caps, s) => lanewise(caps) && (s.m <= 16 || caps.subgroupSize < 8),
    use: (caps) => lanes(16, caps),
    why: "SwiftShader (4 lanes): 16 x (4*8) reaches 3.6; 32 rows gain a tenth or two for twice the text to compile",
  },
  {
    when: (caps, s) => lanewise(caps) && s.mode !== "TN" && s.k % 4 === 0 && square(s),
    use: (caps) => ({ ...lanes(32, caps), turn: true }),
    why:
      "lavapipe: operands that are contiguous along k, with long rows, evict each other from the cache. Transposed first, " +
      "for one part in n or m of the work, they run at TN's rate: NN 512^3 25 -> 32, NT 1024^3 28 -> 36",
  },
  {
    when: (caps) => lanewise(caps),
    use: (caps) => lanes(32, caps),
    why:
      "lavapipe (8 lanes): 32 x (8*4) loads 8 components per 128 fma: 25 in NT at 512^3, 31 in TN, by CPU time of a " +
      "busy machine; 16 rows load 6 per 64 and run at 0.8 of it for 0.7 of the compile time (1 s of CPU)",
  },
  {
    when: (caps) => caps.kind === "cpu" || !sound(caps, "tiled products"),
    use: () => ({ family: "direct", rows: 4, cols: 4, lanes: 8 }),
    why: "no subgroups (wgpu on lavapipe): 9.8; with 8 rows 8.5 and twice the compile time; shared-memory tiles 4 to 5",
  },
  {
    when: (caps, s) => s.mode === "NT" && s.m <= 8 && sound(caps, "products of few rows"),
    use: (_, s) => ({ family: "skinny", rows: s.m }),
    why: "bound by reading B once: 16 invocations per row of B, all rows of A at once",
  },
  {
    when: (caps, s) =>
      s.T === "f16" &&
      s.m >= 32 &&
      caps.matrices !== undefined &&
      SUBGROUPS * caps.subgroupSizeMax <= caps.maxInvocations &&
      sound(caps, "matrix products") &&
      !wastesMatrices(caps, s),
    use: matrix,
    why: "matrix units multiply f16 several times as fast as the other kernels, which compute in f32 whatever they read",
  },
  {
    when: () => true,
    use: tile,
    why:
      "one family for all sizes: 8 x 8 sums per invocation in tiles of 128 x 64 where they fill the device (8 x 4 of them " +
      "reached 82 % of the WGSL fma ceiling on an A100, 14.8 TFLOP/s), and below that tiles as high as there are rows",
  },
];

let invariant = false;

/** Kernels are chosen so that no row's values depend on how many rows there are. */
export const batchInvariant = (): boolean => invariant;

/**
 * Runs what `work` enqueues by kernels whose values for a row are the same bits whatever other rows there are. On GPUs few rows
 * then take longer: their products are neither split nor joined with what is around them. CPU adapters always compute so.
 */
export function batchInvariantly<R>(work: () => R): R {
  const before = invariant;
  invariant = true;
  try {
    return work();
  } finally {
    invariant = before;
  }
}

/** The variant for a product C[m,n] = op(A) op(B) on this adapter. */
export function matmulVariant(caps: Caps, shape: MatmulShape): MatmulVariant {
  // Tiles of all sizes add up along k in the same order.
  if (invariant && caps.kind !== "cpu" && sound(caps, "tiled products")) return { ...tile(caps, shape), splits: 1 };
  return tunedVariant(shape) ?? tabledVariant(caps, shape);
}

/** What the table chooses, whatever was found to be faster on this very adapter. */
export function tabledVariant(caps: Caps, shape: MatmulShape): MatmulVariant {
  const row = table.find(({ when }) => when(caps, shape)) as Row;
  return row.use(caps, shape);
}

export type AttentionVariant = "direct" | "shuffle" | "tiled" | "matrix";

/** What the choice of an attention depends on: the type of its rows, and the width of a head in vec4s. */
export interface AttentionNeeds {
  T: string;
  d4: number;
}

/** The matrices that attention is computed with, where the adapter's fit heads of 4 * d4 columns. */
export function matricesForAttention(caps: Caps, d4: number): (MatrixSize & { lanes: number }) | undefined {
  const lanes = caps.subgroupSizeMax;
  const found = caps.matrices && { ...caps.matrices, lanes };
  if (!found || !matricesFit({ d4, ...found })) return undefined;
  const room = MATRIX_ATTENTION_BYTES <= caps.maxWorkgroupStorage && matrixInvocations(found) <= caps.maxInvocations;
  return room ? found : undefined;
}

const attentionTable: { when: (caps: Caps, needs: AttentionNeeds) => boolean; use: AttentionVariant; why: string }[] = [
  {
    when: (caps) => lanewise(caps) && caps.subgroupSize <= 16,
    use: "shuffle",
    why: "64 sequences of 32-95 tokens, 4 heads of 32, on lavapipe: forward 14 ms, gradient 27 ms; direct takes 3 times that",
  },
  {
    when: (caps) => caps.kind === "cpu",
    use: "direct",
    why: "no subgroups: two rows per invocation share each load; staging K and V costs more than it saves",
  },
  {
    when: (caps, { T, d4 }) =>
      T === "f16" && matricesForAttention(caps, d4) !== undefined && sound(caps, "matrix attention"),
    use: "matrix",
    why: "matrix units multiply f16 several times as fast as the kernels below, which compute in f32 whatever they read",
  },
  {
    when: (caps) => sound(caps, "tiled attention"),
    use: "tiled",
    why: "matrix products within 16 KiB of workgroup memory",
  },
  { when: () => true, use: "direct", why: "relies on nothing" },
];

/** How attention is computed: see shaders/attention-parts.wgsl.ts, and attention-tiled.wgsl.ts and attention-matrix.wgsl.ts beside it. */
export const attentionVariant = (caps: Caps, needs: AttentionNeeds): AttentionVariant =>
  (attentionTable.find(({ when }) => when(caps, needs)) as (typeof attentionTable)[number]).use;

/** Own rows and items of an invocation of tiled attention, and how many invocations share rows. */
export interface AttentionTile {
  rows: number;
  items: number;
  lanes: number;
}

/** The tile for heads of 4 * d4 columns. Sums take rows * d4 / lanes vec4s of registers, twice that for keys and values. */
export const attentionTile = (d4: number): AttentionTile =>
  d4 <= 32 ? { rows: 4, items: 4, lanes: 8 } : { rows: 4, items: 2, lanes: 16 };

/** Keys of a cache that a workgroup attends to at a time, and most of its heads: 64 invocations find 8 partial maxima of each. */
const CACHE_TILE = 64;
const CACHE_HEADS = 8;

/**
 * How attention to a cache is shared: heads on a KV head that a workgroup attends for, and workgroups that share the keys of a
 * row. Keys are split where that keeps a GPU busy, in whole tiles; up to three tiles one after another take no longer than the
 * dispatch that joins parts. Heads that share keys and values are worth less than a busy GPU.
 * @param all query heads of all rows
 * @param group those on one KV head
 */
export function cacheShares(
  caps: Caps,
  all: number,
  group: number,
  capacity: number,
): { heads: number; parts: number } {
  const divisors = Array.from({ length: Math.min(group, CACHE_HEADS) }, (_, i) => i + 1).filter((n) => group % n === 0);
  const most = divisors[divisors.length - 1];
  if (invariant) return { heads: most, parts: 1 };
  const tiles = Math.ceil(capacity / CACHE_TILE);
  const wanted = Math.floor((2 * saturating(caps) * most) / all);
  const parts = tiles <= 3 ? 1 : Math.max(1, Math.min(wanted, tiles, 64));
  const heads = parts > 1 ? most : (divisors.find((n) => all / n <= saturating(caps)) ?? most);
  return { heads, parts };
}
