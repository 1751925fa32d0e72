/** What a matrix product is like, and by which kernel it is computed. */
import type { MatrixTile } from "../shaders/matmul-matrix.wgsl.ts";

export interface MatmulShape {
  mode: "NN" | "NT" | "TN";
  m: number;
  n: number;
  k: number;
  batch: number;
  /** Type of the operands. Default f32. */
  T?: string;
}

/** `turn`: operands that are contiguous along k are transposed first. */
export type MatmulVariant =
  | { family: "subgroup" | "direct"; rows: number; cols: number; lanes: number; turn?: boolean }
  | { family: "tiled"; bm: number; bn: number; bk: number; rows: number; cols: number; splits: number }
  | ({ family: "matrix"; splits: number } & MatrixTile)
  | { family: "skinny"; rows: number };
