/** A norm, the linear layer that reads it and its gate in one, for the few rows of decoding on GPUs. */
import { caps } from "../../gpu/device.ts";
import { type Kernel, kernel } from "../../gpu/kernel.ts";
import { addWork, run } from "../../gpu/stream.ts";
import { batchInvariant } from "../../gpu/variants.ts";
import { type Gate, gateCode } from "../../shaders/activation.wgsl.ts";
import { readFour, readQuantized } from "../../shaders/matmul-access.wgsl.ts";
import { NORMED_LINEAR } from "../../shaders/normed-linear.wgsl.ts";
import { quantizedAccess } from "../../shaders/quantized.wgsl.ts";
import { empty, type Tensor, willRecord } from "../core.ts";
import { QuantizedWeight, trainable, type Weight } from "../quantized.ts";

/** An RMSNorm and the linear layer that reads it. */
export interface NormedLinear {
  /** Weights of the norm, f32 [K]. */
  norm: Tensor;
  eps: number;
  /** The norm's weights are stored less 1. */
  offset: boolean;
  /** [N, K], or [2 N, K] where there is a gate: the gate's rows first. */
  weight: Weight;
  /** As many as the weight has rows. */
  bias?: Tensor;
  /** y = activation(gate) * up. Default: no gate. */
  gate?: Gate;
  /** Type of the result. Default f32. */
  type?: "f32" | "f16";
}

const MOST_ROWS = 8;

/**
 * Whether `normedLinear` takes the place of its parts: on GPUs, where decoding is bound by the number of dispatches, for a
 * few rows whose gradients nobody wants. A CPU adapter would compute each row's norm as often as there are workgroups.
 */
export function fusesNorm(x: Tensor, { norm, weight, bias }: NormedLinear): boolean {
  const cols = x.shape[x.shape.length - 1];
  if (caps().kind === "cpu" || batchInvariant() || x.dtype !== "f32" || cols % 4 !== 0 || x.size > MOST_ROWS * cols)
    return false;
  return !willRecord([x, norm, ...trainable(weight), ...(bias ? [bias] : [])]);
}

const kernels = new Map<string, Kernel>();

function declare(weight: Weight, bias: boolean, gate: Gate | undefined): Kernel {
  const format = weight instanceof QuantizedWeight ? weight.format : null;
  const name = ["normed_linear", ...(gate ? [gate] : []), ...(format ? [format] : []), ...(bias ? ["bias"] : [])].join(
    "_",
  );
  let found = kernels.get(name);
  if (!found) {
    const code = [
      format ? quantizedAccess[format].code + readQuantized : readFour("B", true),
      gate ? `alias F = f32;\n${gateCode(gate)}` : "fn act(g: f32) -> f32 { return g; }",
      bias ? "fn bias(i: u32) -> f32 { return biases[i]; }" : "fn bias(i: u32) -> f32 { return 0.0; }",
      NORMED_LINEAR,
    ];
    found = kernel({
      name,
      code: code.join("\n"),
      bindings: {
        x: "read vec4f",
        norm: "read vec4f",
        ...(format ? quantizedAccess[format].bindings : { b: "read vec4<TB>" }),
        ...(bias ? { biases: "read f32" } : {}),
        y: "write OUT",
      },
      scalars: { m: "u32", n: "u32", k: "u32", ldb: "u32", eps: "f32" },
    });
    kernels.set(name, found);
  }
  return found;
}

/**
 * norm(x) W^T + bias, gated or not, for a weight in f32, f16 or quantized. Not recorded for gradients.
 * @param x [..., K], f32, at most 8 rows, K a multiple of 4
 * @returns [..., N]
 */
export function normedLinear(x: Tensor, { norm, eps, offset, weight, bias, gate, type = "f32" }: NormedLinear): Tensor {
  const k = x.shape[x.shape.length - 1];
  const m = x.size / k;
  const [columns, inputs] = weight.shape;
  const n = gate ? columns / 2 : columns;
  if (k % 4 !== 0 || m > MOST_ROWS || inputs !== k || norm.size !== k || (bias && bias.size !== columns)) {
    throw new Error(`normedLinear: x [${x.shape}], norm [${norm.shape}] and weight [${weight.shape}] do not fit`);
  }
  const y = empty([...x.shape.slice(0, -1), n], type, "normedLinear");
  const quantized = weight instanceof QuantizedWeight;
  const buffers = [
    x.view,
    norm.view,
    ...(quantized ? weight.buffers : [weight.view]),
    ...(bias ? [bias.view] : []),
    y.view,
  ];
  const types = { TB: weight instanceof QuantizedWeight ? "f32" : weight.dtype, OUT: type };
  const consts = { ...types, ROWS: m <= 1 ? 1 : m <= 4 ? 4 : 8, OFFSET: offset, GATED: gate !== undefined };
  const scalars = [m, n, k, quantized ? weight.stride : k, eps];
  run(declare(weight, bias !== undefined, gate), consts, buffers, scalars, Math.ceil(n / (gate ? 4 : 8)));
  addWork(2 * m * columns * k);
  return y;
}
