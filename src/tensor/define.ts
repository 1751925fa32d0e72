/** Ops of one's own: a kernel and the rule of its gradient. */
import { type Kernel, kernel, type ScalarType } from "../gpu/kernel.ts";
import { run } from "../gpu/stream.ts";
import { UserError } from "../runtime/errors.ts";
import { empty, record, type Shape, Tensor } from "./core.ts";
import { WG } from "./raw.ts";

export type { ScalarType };

/** An op: how a kernel computes its output, and how its gradient goes back. */
export interface OpSpec<P extends string = string> {
  /** Appears in errors and profiles. */
  name: string;
  /** What the kernel does. */
  kernel: {
    /** Names of the inputs. The kernel reads each as an array of f32, row by row. */
    inputs: readonly string[];
    /**
     * WGSL with a function `fn value(i: u32) -> f32` that computes element i of the output, one thread each. Parameters are
     * read as `u.name`, the number of output elements as `u.n`.
     */
    code: string;
    /** Numbers that calls give, and their WGSL types. Default: none. */
    params?: Readonly<Record<P, ScalarType>>;
  };
  /** The output's shape. Default: the first input's. */
  shape?: (shapes: readonly Shape[], params: Readonly<Record<P, number>>) => Shape;
  /**
   * From the output's gradient `dy` to the inputs', in their order, made by ops (their shapes are the inputs', or broadcast to the
   * output's); null for an input without. Default: there is no gradient, and a call that would need one throws.
   */
  vjp?: (dy: Tensor, call: OpCall<P>) => readonly (Tensor | null)[];
}

/** A call of an op, as its gradient sees it. */
export interface OpCall<P extends string = string> {
  readonly inputs: readonly Tensor[];
  readonly output: Tensor;
  readonly params: Readonly<Record<P, number>>;
}

/** A defined op: takes its inputs, one alone or a list, and its parameters. */
export type Op<P extends string = string> = (
  inputs: Tensor | readonly Tensor[],
  ...params: [P] extends [never] ? [] : [params: Readonly<Record<P, number>>]
) => Tensor;

/**
 * Makes an op of a WGSL formula and, where it is to be trained through, the rule of its gradient. Hold that against
 * differences with `checkGradient`.
 *
 *     const cube = defineOp({
 *       name: "cube",
 *       kernel: { inputs: ["x"], code: "fn value(i: u32) -> f32 { return x[i] * x[i] * x[i]; }" },
 *       vjp: (dy, { inputs: [x] }) => [mul(dy, scale(square(x), 3))],
 *     });
 *
 * @throws UserError for names that WGSL cannot have; calls throw it for wrong inputs and parameters, and for a gradient that is
 * wanted without a rule. A kernel that does not compile is reported, with its lines, by the next read
 */
export function defineOp<const P extends string = never>(spec: OpSpec<P>): Op<P> {
  const { name, shape = ([first]: readonly Shape[]) => first, vjp } = spec;
  const { inputs: names, code } = spec.kernel;
  const types = (spec.kernel.params ?? {}) as Record<string, ScalarType>;
  for (const word of [...names, ...Object.keys(types)]) {
    if (!/^[A-Za-z]\w*$/.test(word) || ["y", "u", "n", "value", "main"].includes(word)) {
      throw new UserError(
        `op ${name}: "${word}" cannot name an input or a parameter; y, u, n, value and main are taken`,
      );
    }
  }
  if (names.length === 0 || names.length > 7) throw new UserError(`op ${name}: 1 to 7 inputs, not ${names.length}`);
  const own: Kernel = kernel({
    name,
    code: code + main,
    bindings: { ...Object.fromEntries(names.map((input) => [input, "read f32"])), y: "write f32" },
    scalars: { n: "u32", ...types },
  });
  return (given, ...[chosen]) => {
    const inputs = given instanceof Tensor ? [given] : given;
    const params = (chosen ?? {}) as Readonly<Record<P, number>>;
    if (inputs.length !== names.length) {
      throw new UserError(`op ${name} takes ${names.length} inputs (${names.join(", ")}), not ${inputs.length}`);
    }
    for (const [i, { dtype }] of inputs.entries()) {
      if (dtype !== "f32") throw new UserError(`op ${name}: ${names[i]} holds ${dtype}, kernels of defineOp read f32`);
    }
    const numbers = Object.keys(types).map((param) => {
      const value = (params as Record<string, unknown>)[param];
      if (typeof value !== "number") throw new UserError(`op ${name} needs the parameter ${param}, a number`);
      return value;
    });
    const output = empty(
      shape(
        inputs.map((input) => input.shape),
        params,
      ),
      "f32",
      name,
    );
    const views = [...inputs, output].map(({ view }) => view);
    run(own, { WG }, views, [output.size, ...numbers], Math.ceil(output.size / WG));
    return record(name, inputs, output, (dy) => {
      if (!vjp)
        throw new UserError(`op ${name} has no gradient: give defineOp a vjp, or detach() what does not need one`);
      const gradients = vjp(dy, { inputs, output, params });
      if (gradients.length !== inputs.length) {
        throw new UserError(`op ${name}: its vjp gives ${gradients.length} gradients for ${inputs.length} inputs`);
      }
      return [...gradients];
    });
  };
}

const main = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i < u.n) { y[i] = value(i); }
}`;
