/**
 * Prelude shared by every kernel that owns whole rows of a matrix (norms, softmax, sampling, log-probabilities).
 *
 * A row is read by LANES invocations and a workgroup of WG holds ROWS = WG / LANES rows. The kernel body is written once;
 * how the lanes of a row add up their partial results is the only thing that differs:
 *  - "subgroup":  a row is one subgroup: no barrier, no shared memory. 14 times faster than a workgroup per row on CPU adapters.
 *  - "workgroup": a row is one workgroup: shared memory and two barriers per reduction. For wide rows on GPUs, or no subgroups there.
 *  - "serial":    a row is one invocation. For CPU adapters without subgroups: the lanes of the machine then run along rows.
 *
 * Reductions must be called from uniform control flow: clamp the row index, predicate the stores.
 */
export type RowVariant = "subgroup" | "workgroup" | "serial";

const SUBGROUP = `
fn rowSum(v: f32, lid: u32) -> f32 { return subgroupAdd(v); }
fn rowSum4(v: vec4f, lid: u32) -> vec4f { return subgroupAdd(v); }
fn rowMax(v: f32, lid: u32) -> f32 { return subgroupMax(v); }
`;

const SERIAL = `
fn rowSum(v: f32, lid: u32) -> f32 { return v; }
fn rowSum4(v: vec4f, lid: u32) -> vec4f { return v; }
fn rowMax(v: f32, lid: u32) -> f32 { return v; }
`;

// Two folds instead of a tree: WG values to FOLD, then everybody reads the FOLD values. Two barriers whatever WG is;
// the next call's first barrier keeps its second array from being overwritten too early.
const WORKGROUP = `
const FOLD = select(16u, 32u, WG >= 512u);
var<workgroup> rowPart: array<vec4f, WG>;
var<workgroup> rowFold: array<vec4f, FOLD>;
fn rowSum4(v: vec4f, lid: u32) -> vec4f {
  rowPart[lid] = v;
  workgroupBarrier();
  if (lid < FOLD) {
    var s = rowPart[lid];
    for (var i = lid + FOLD; i < WG; i += FOLD) { s += rowPart[i]; }
    rowFold[lid] = s;
  }
  workgroupBarrier();
  var t = rowFold[0];
  for (var i = 1u; i < FOLD; i += 1u) { t += rowFold[i]; }
  return t;
}
fn rowSum(v: f32, lid: u32) -> f32 { return rowSum4(vec4f(v, 0.0, 0.0, 0.0), lid).x; }
fn rowMax(v: f32, lid: u32) -> f32 {
  rowPart[lid].x = v;
  workgroupBarrier();
  if (lid < FOLD) {
    var s = rowPart[lid].x;
    for (var i = lid + FOLD; i < WG; i += FOLD) { s = max(s, rowPart[i].x); }
    rowFold[lid].x = s;
  }
  workgroupBarrier();
  var t = rowFold[0].x;
  for (var i = 1u; i < FOLD; i += 1u) { t = max(t, rowFold[i].x); }
  return t;
}
`;

const WIDTH4 = `
alias V = vec4<T>;
alias F = vec4f;
alias U = vec4u;
const WIDTH = 4u;
fn hsum(v: F) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn hmax(v: F) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn oneHot(k: u32) -> F { return select(F(0.0), F(1.0), vec4u(0u, 1u, 2u, 3u) == vec4u(k)); }
`;

const WIDTH1 = `
alias V = T;
alias F = f32;
alias U = u32;
const WIDTH = 1u;
fn hsum(v: F) -> f32 { return v; }
fn hmax(v: F) -> f32 { return v; }
fn oneHot(k: u32) -> F { return 1.0; }
`;

const COMMON = `
const ROWS = WG / LANES;
const LOWEST = -3.0e38;
fn rowIndex(group: u32, lid: u32) -> u32 { return group * ROWS + lid / LANES; }
`;

/** Element types for one vector width: V in storage, F in f32 arithmetic, U for bits. */
export function widthPrelude(width: 1 | 4): string {
  return width === 4 ? WIDTH4 : WIDTH1;
}

/** Everything a row kernel's body may use. Consts WG and LANES come from the plan. */
export function rowPrelude(variant: RowVariant, width: 1 | 4): string {
  const reduce = variant === "subgroup" ? SUBGROUP : variant === "serial" ? SERIAL : WORKGROUP;
  return COMMON + widthPrelude(width) + reduce;
}

/** x + sum(x) + max(x) over each row: what is tried before reductions are relied on. */
export const ROW_SELF_TEST = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let base = min(row, u.rows - 1u) * u.n;
  var total = F(0.0);
  var largest = F(LOWEST);
  for (var i = lane; i < u.n; i += LANES) {
    let v = F(x[base + i]);
    total += v;
    largest = max(largest, v);
  }
  let more = rowSum(hsum(total), lid) + rowMax(hmax(largest), lid);
  if (row < u.rows) {
    for (var i = lane; i < u.n; i += LANES) { y[base + i] = V(F(x[base + i]) + more); }
  }
}`;
