/**
 * Gated activations: h = act(gate) * up, gate and up being the two halves of each row. `n` = vectors in one half.
 *
 * An activation is three functions: act(g) itself, byUp(g, d) = d act(g) and byGate(g, d) = d act'(g), where d is what
 * comes down times the other factor.
 */
import { ERF } from "./elementwise.wgsl.ts";

/** Activation of the gate in `glu`. */
export type Gate = "silu" | "gelu_tanh" | "gelu" | "relu";

const byUp = "fn byUp(g: F, d: F) -> F { return d * act(g); }";

const gates: Record<Gate, string> = {
  silu: `
fn sigmoid(v: F) -> F { return 1.0 / (1.0 + exp(clamp(-v, F(-80.0), F(80.0)))); }
fn act(g: F) -> F { return g * sigmoid(g); }
fn byUp(g: F, d: F) -> F { return d * g * sigmoid(g); }
fn byGate(g: F, d: F) -> F {
  let s = sigmoid(g);
  return d * s * (1.0 + g * (1.0 - s));
}`,
  // 0.5 (1 + tanh z) = sigmoid(2 z), z = sqrt(2 / pi) (g + 0.044715 g^3); the cubic would overflow for huge g.
  gelu_tanh: `
fn phi(g: F) -> F {
  let v = clamp(g, F(-20.0), F(20.0));
  return 1.0 / (1.0 + exp(clamp(-1.5957691216057308 * v * (1.0 + 0.044715 * v * v), F(-80.0), F(80.0))));
}
fn act(g: F) -> F { return g * phi(g); }
${byUp}
fn byGate(g: F, d: F) -> F {
  let p = phi(g);
  let v = clamp(g, F(-20.0), F(20.0));
  return d * (p + g * p * (1.0 - p) * 1.5957691216057308 * (1.0 + 0.134145 * v * v));
}`,
  gelu: `
alias D = F;
${ERF}
fn act(g: F) -> F { return g * normalCdf(g); }
${byUp}
fn byGate(g: F, d: F) -> F { return d * (normalCdf(g) + g * normalPdf(g)); }`,
  relu: `
fn act(g: F) -> F { return select(g, F(0.0), g < F(0.0)); }
${byUp}
fn byGate(g: F, d: F) -> F { return select(F(0.0), d, g > F(0.0)); }`,
};

/** The functions of an activation for values of a type F. */
export const gateCode = (gate: Gate): string => gates[gate];

export const gluForward = (gate: Gate): string => `${gates[gate]}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linearId(wid, nwg) * (WG / LANES) + lid / LANES;
  if (row >= u.rows) { return; }
  let base = row * u.n;
  for (var i = lid % LANES; i < u.n; i += LANES) {
    let g = F(x[2u * base + i]);
    h[base + i] = V(act(g) * F(x[2u * base + u.n + i]));
  }
}`;

export const gluBackward = (gate: Gate): string => `${gates[gate]}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linearId(wid, nwg) * (WG / LANES) + lid / LANES;
  if (row >= u.rows) { return; }
  let base = row * u.n;
  for (var i = lid % LANES; i < u.n; i += LANES) {
    let a = 2u * base + i;
    let b = a + u.n;
    let g = F(x[a]);
    let d = F(dh[base + i]);
    var dgate = byGate(g, d * F(x[b]));
    var dup = byUp(g, d);
    if (ACC) {
      dgate += F(dx[a]);
      dup += F(dx[b]);
    }
    dx[a] = V(dgate);
    dx[b] = V(dup);
  }
}`;
