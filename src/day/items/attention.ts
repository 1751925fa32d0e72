/** Attention over whole sequences, forward and with its gradients, in both precisions. */
import { attentionVariant } from "../../gpu/variants.ts";
import { backward, noGrad, scope, type Tensor, zeros } from "../../tensor/core.ts";
import { attention as attend } from "../../tensor/ops/attention.ts";
import { cast } from "../../tensor/ops/cast.ts";
import { sum } from "../../tensor/ops/reduce.ts";
import { packing } from "../../tensor/packing.ts";
import type { DayContext, DayItem } from "../item.ts";
import { noiseTensor } from "../noise.ts";
import { Budget, pace, rate } from "../pace.ts";

/** Heads of 64 and of 128 columns, as small and larger models have them. */
const heads = [
  { heads: 9, kvHeads: 3, headDim: 64 },
  { heads: 8, kvHeads: 2, headDim: 128 },
];

export const attention: DayItem = {
  name: "attention",
  summary: "attention over whole sequences, forward and with gradients, in both precisions",
  share: 40,
  async run({ caps, model, seconds, tell }: DayContext) {
    const budget = new Budget(seconds);
    const [sequences, tokens] = model.batch;
    const types = caps.f16 ? (["f32", "f16"] as const) : (["f32"] as const);
    const cases = heads.flatMap((shape) =>
      model.lengths.flatMap((length) => types.map((type) => ({ shape, length, type }))),
    );
    for (const [at, { shape, length, type }] of cases.entries()) {
      const count = Math.max(1, Math.floor((sequences * tokens) / length));
      const columns = (shape.heads + 2 * shape.kvHeads) * shape.headDim;
      const chosen = attentionVariant(caps, { T: type, d4: shape.headDim / 4 });
      // Matrix units are to show what they gain.
      const variants = chosen === "matrix" ? [chosen, "tiled" as const] : [chosen];
      const [leaf, gradient] = leafOf([count * length, columns], type);
      try {
        for (const [done, variant] of variants.entries()) {
          const each = budget.shareOf(cases.length - at) / 2 / (variants.length - done);
          const lengths: number[] = new Array(count).fill(length);
          const run = () => attend(leaf, packing(lengths), { ...shape, variant });
          // Two products of a half of length x length, for each head; the gradient takes five more.
          const forward = 2 * count * length * length * shape.heads * shape.headDim;
          const what = `heads of ${shape.headDim}, ${count} x ${length} tokens${type === "f16" ? ", in half precision" : ""}`;
          const kept = (found: ReturnType<typeof rate>) => ({
            ...{ unit: "GFLOP/s" as const, how: variant, ...found },
            ...(variant === "matrix" ? {} : { bound: { ceiling: "f32 multiply-adds", reached: found.value } as const }),
          });
          const seen = await pace(() => void noGrad(run), each);
          tell({ what: `attention, ${what}`, ...kept(rate(forward, seen)) });
          const learned = await pace(() => backward(sum(cast(run(), "f32"))), each);
          tell({ what: `attention with gradients, ${what}`, ...kept(rate(3.5 * forward, learned)) });
        }
      } finally {
        for (const t of [leaf, gradient]) t.free("the day");
      }
    }
  },
};

/** Queries, keys and values, and where their gradients are collected. */
function leafOf(shape: readonly number[], type: "f32" | "f16"): [leaf: Tensor, gradient: Tensor] {
  return scope(() => {
    const leaf = cast(noiseTensor(shape, 1), type);
    const gradient = cast(zeros(shape), type);
    leaf.requiresGrad = true;
    leaf.grad = gradient;
    return [leaf, gradient];
  });
}
