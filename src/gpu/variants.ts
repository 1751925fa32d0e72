/**
 * Which kernel runs: capabilities and shape in, variant and tile out. The first row that applies wins. Figures beside the
 * rows are GFLOP/s in f32 on 2 cores of an AMD EPYC unless another machine is named.
 */
import type { Caps } from "./device.ts";
import type { KernelFamily } from "./self-tests.ts";

export interface MatmulShape {
  mode: "NN" | "NT" | "TN";
  m: number;
  n: number;
  k: number;
  batch: number;
}

/** `turn`: operands that are contiguous along k are transposed first. */
export type MatmulVariant =
  | { family: "subgroup" | "direct"; rows: number; cols: number; lanes: number; turn?: boolean }
  | { family: "tiled"; bm: number; bn: number; bk: number; splits: number }
  | { family: "skinny"; rows: number };

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

/** Workgroups that keep a large GPU busy: about two for each of 130 cores. */
const SATURATING = 256;
const groups = ({ m, n, batch }: MatmulShape, bm: number, bn: number): number =>
  Math.ceil(m / bm) * Math.ceil(n / bn) * batch;

/** Splits of k that bring a small output (a weight gradient) up to a busy GPU, each at least 256 steps long. */
const splits = (shape: MatmulShape, bm: number, bn: number): number =>
  Math.max(1, Math.min(Math.floor(SATURATING / groups(shape, bm, bn)), Math.floor(shape.k / 256), 64));

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
    use: (_, s) => ({ family: "skinny", rows: s.m <= 1 ? 1 : s.m <= 4 ? 4 : 8 }),
    why: "bound by reading B once: 16 invocations per row of B, all rows of A at once",
  },
  {
    when: (_, s) => groups(s, 128, 64) >= SATURATING,
    use: () => ({ family: "tiled", bm: 128, bn: 64, bk: 16, splits: 1 }),
    why: "8 x 4 sums per invocation in 128 x 64 tiles reach 82 % of the WGSL fma ceiling on an A100 (14.8 TFLOP/s)",
  },
  {
    when: (_, s) => groups(s, 64, 64) >= SATURATING / 4 || s.k >= 512,
    use: (_, s) => ({ family: "tiled", bm: 64, bn: 64, bk: 16, splits: splits(s, 64, 64) }),
    why: "fewer than two 128 x 64 tiles per core: smaller tiles, and long k is split (13.0 TFLOP/s on an A100 unsplit)",
  },
  {
    when: () => true,
    use: () => ({ family: "tiled", bm: 64, bn: 32, bk: 8, splits: 1 }),
    why: "small products are bound by launch latency: as many workgroups as possible",
  },
];

/** The variant for a product C[m,n] = op(A) op(B) on this adapter. */
export function matmulVariant(caps: Caps, shape: MatmulShape): MatmulVariant {
  const row = table.find(({ when }) => when(caps, shape)) as Row;
  return row.use(caps, shape);
}

export type AttentionVariant = "direct" | "shuffle" | "tile";

const attentionTable: { when: (caps: Caps) => boolean; use: AttentionVariant; why: string }[] = [
  {
    when: (caps) => lanewise(caps) && caps.subgroupSize <= 16,
    use: "shuffle",
    why: "64 sequences of 32-95 tokens, 4 heads of 32, on lavapipe: forward 14 ms, gradient 27 ms; direct takes 3 times that",
  },
  {
    when: (caps) => caps.kind === "cpu" || !sound(caps, "tiled attention"),
    use: "direct",
    why: "no subgroups: two rows per invocation share each load; staging K and V costs more than it saves",
  },
  { when: () => true, use: "tile", why: "64 rows share a tile of K and V within 16 KiB of workgroup memory" },
];

/** How the streamed side of attention reaches the invocations; see shaders/attention.wgsl.ts. */
export const attentionVariant = (caps: Caps): AttentionVariant =>
  (attentionTable.find(({ when }) => when(caps)) as (typeof attentionTable)[number]).use;
