/** Whether the kernels compute right values here, before anybody asks how fast: each against float64, or a known run. */
import { attentionVariant, matmulVariant } from "../../gpu/variants.ts";
import { CausalLM } from "../../nn/models.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { noise } from "../../runtime/noise.ts";
import { attentionGradientInFloat64, attentionInFloat64 } from "../../tensor/attention-float64.ts";
import { backward, noGrad, scope, tensor, zeros } from "../../tensor/core.ts";
import { attention } from "../../tensor/ops/attention.ts";
import { cast } from "../../tensor/ops/cast.ts";
import { multiplyAdds } from "../../tensor/ops/ceilings.ts";
import { mul, scale } from "../../tensor/ops/elementwise.ts";
import { gemm } from "../../tensor/ops/gemm.ts";
import { rmsNorm } from "../../tensor/ops/norm.ts";
import { sum } from "../../tensor/ops/reduce.ts";
import { logSoftmax } from "../../tensor/ops/softmax.ts";
import { packing } from "../../tensor/packing.ts";
import type { DayContext, DayItem } from "../item.ts";
import { tokensOf } from "../made-up.ts";
import { dayModels } from "../models.ts";
import { candidates, type DayProduct, errorOf, say } from "./products.ts";

/** Accepted errors, beside the largest value. */
const FINE = 2e-6;
const SOFT = 2e-5;
/** Of values near 1 whose operands, parts and results are rounded to f16. */
const ROUNDED = 5e-3;
/** Losses of 20 steps in f16 stay this near to those in f32. */
const HALF = 0.02;

export const halfCanary: DayItem = {
  name: "f16",
  summary: "whether f16 arithmetic works at all",
  share: 3,
  async run({ caps, note, tell }: DayContext) {
    note({ f16: caps.f16 });
    if (!caps.f16) return;
    const [sums] = multiplyAdds(64 * 1024 * 64, "f16", 1024);
    const values = await sums.read();
    sums.free("the day");
    // Each chain goes to where x = 0.5 x + 0.25 stands still, and there are 32 numbers in a sum.
    const worst = Array.from(values as Float32Array).reduce((most, value) => Math.max(most, Math.abs(value - 16)), 0);
    tell({ what: "sums of f16 multiply-adds", unit: "error", value: worst, ...(worst <= 0.1 ? {} : { wrong: true }) });
  },
};

export const correct: DayItem = {
  name: "correct",
  summary: "values of products, attention, norms, log-probabilities and twenty training steps",
  share: 25,
  async run(context: DayContext) {
    await products(context);
    await attentions(context);
    await rows(context);
    await steps(context);
  },
};

async function products({ caps, tell }: DayContext): Promise<void> {
  const shapes: DayProduct["sizes"][] = [
    [1, 576, 192],
    [7, 100, 130],
    [129, 70, 77],
    [300, 260, 1100],
  ];
  for (const mode of ["NT", "NN", "TN"] as const) {
    for (const sizes of shapes) {
      const [m, n, k] = sizes;
      const product: DayProduct = { name: "", mode, sizes };
      const chosen = matmulVariant(caps, { mode, m, n, k, batch: 1 });
      const values = [noise(m * k, 3), noise(n * k, 4)] as const;
      const [a, b] = [
        tensor(values[0], mode === "TN" ? [k, m] : [m, k]),
        tensor(values[1], mode === "NT" ? [n, k] : [k, n]),
      ];
      const others = caps.kind === "hardware" ? candidates(product, chosen) : [];
      for (const variant of [chosen, ...others]) {
        const c = gemm(a, b, mode, sizes, { variant });
        const error = errorOf(product, values, (await c.read()) as Float32Array);
        c.free("the day");
        tell({
          what: `product ${mode} ${m}x${n}x${k}`,
          unit: "error",
          value: error,
          how: say(variant),
          ...(error <= FINE ? {} : { wrong: true }),
        });
      }
      for (const t of [a, b]) t.free("the day");
    }
  }
}

async function attentions({ caps, tell }: DayContext): Promise<void> {
  const lengths = [37, 5];
  const count = 42;
  const types = caps.f16 ? (["f32", "f16"] as const) : (["f32"] as const);
  const cases = [64, 128].flatMap((headDim) => types.map((type) => ({ headDim, type })));
  for (const { headDim, type } of cases) {
    const shape = { heads: 2, kvHeads: 1, headDim };
    const width = 4 * headDim;
    const values = noise(count * width, 5);
    const seed = noise(2 * count * headDim, 6);
    const { out, gradient } = scope(() => {
      const qkv = cast(tensor(values, [count, width]), type);
      const gradient = cast(zeros(qkv.shape), type);
      qkv.requiresGrad = true;
      qkv.grad = gradient;
      const out = cast(attention(qkv, packing(lengths), shape), "f32");
      const kept = out.alias(out.shape, "the day"); // backward() frees the original
      backward(sum(mul(out, tensor(seed, out.shape))));
      return { out: kept, gradient };
    });
    const parts = [
      ["attention", out, attentionInFloat64(values, lengths, shape)],
      ["attention's gradient", gradient, attentionGradientInFloat64(values, seed, lengths, shape)],
    ] as const;
    const accepted = type === "f16" ? ROUNDED : SOFT;
    for (const [what, tensor, want] of parts) {
      const got = (await tensor.read()) as Float32Array;
      tensor.free("the day");
      const error = want.reduce((most, value, i) => Math.max(most, Math.abs(value - got[i])), 0);
      tell({
        what: `${what}, heads of ${headDim}${type === "f16" ? ", in half precision" : ""}`,
        unit: "error",
        value: error,
        how: attentionVariant(caps, { T: type, d4: headDim / 4 }),
        ...(error <= accepted ? {} : { wrong: true }),
      });
    }
  }
}

/** Kernels that reduce along rows, of widths that subgroups fill and do not fill. */
async function rows({ tell }: DayContext): Promise<void> {
  for (const width of [576, 1024, 4096]) {
    const values = noise(3 * width, 6);
    const [norm, logs] = scope(() =>
      noGrad(() => {
        const x = tensor(values, [3, width]);
        return [rmsNorm(x, tensor(new Float32Array(width).fill(1)), 1e-5), logSoftmax(x)];
      }),
    );
    const [normed, logged] = [await norm.read(), await logs.read()];
    for (const t of [norm, logs]) t.free("the day");
    let [worstNorm, worstLog] = [0, 0];
    for (let r = 0; r < 3; r++) {
      const row = values.subarray(r * width, (r + 1) * width);
      const root = Math.sqrt(row.reduce((all, x) => all + x * x, 0) / width + 1e-5);
      const log = Math.log(row.reduce((all, x) => all + Math.exp(x), 0));
      row.forEach((x, i) => {
        worstNorm = Math.max(worstNorm, Math.abs(normed[r * width + i] - x / root));
        worstLog = Math.max(worstLog, Math.abs(logged[r * width + i] - (x - log)));
      });
    }
    for (const [what, value] of [
      ["RMSNorm", worstNorm],
      ["log-softmax", worstLog],
    ] as const) {
      tell({ what: `${what}, rows of ${width}`, unit: "error", value, ...(value <= SOFT ? {} : { wrong: true }) });
    }
  }
}

/** Losses of the same twenty steps on lavapipe: every adapter comes near them. */
const LOSSES = { first: 6.263276, last: 2.053174 };

async function steps({ caps, tell }: DayContext): Promise<void> {
  const plain = await losses(false);
  const error = Math.max(Math.abs(plain[0] - LOSSES.first), Math.abs((plain.at(-1) as number) - LOSSES.last));
  tell({
    what: "losses of twenty steps",
    unit: "error",
    value: error,
    how: `${plain[0].toFixed(6)} to ${plain.at(-1)?.toFixed(6)}`,
    ...(error <= 1e-3 ? {} : { wrong: true }),
  });
  if (!caps.f16) return;
  const half = await losses(true);
  const apart = half.reduce((most, loss, i) => Math.max(most, Math.abs(loss - plain[i])), 0);
  tell({
    what: "losses of twenty steps in half precision, beside f32",
    unit: "error",
    value: apart,
    ...(apart <= HALF ? {} : { wrong: true }),
  });
}

async function losses(half: boolean): Promise<number[]> {
  const shape = dayModels.tiny;
  const model = new CausalLM(shape.config, "the day's model").initialize(1);
  model.half = half;
  const optimizer = new AdamW(model.store, { lossScaling: half });
  const ids = tokensOf(shape, 96, 1);
  const targets = ids.map((id) => (id * 7 + 3) % shape.config.vocabSize);
  const found: number[] = [];
  try {
    for (let step = 0; step < 20; step++) {
      const loss = scope(() => {
        const every = Uint32Array.from(ids, (_, i) => i);
        const { logProbs } = model.logProbs({ gpu: tensor(ids), host: ids }, packing([40, 56]), every, targets);
        const loss = scale(sum(logProbs), -1 / ids.length);
        backward(loss, optimizer.lossSeed());
        optimizer.step(3e-3);
        return loss;
      });
      found.push((await loss.read())[0]);
      loss.free("the day");
    }
  } finally {
    optimizer.destroy();
    model.destroy();
  }
  return found;
}
