/** Attention over whole sequences, forward and with its gradients. */
import { backward, noGrad } from "../../tensor/core.ts";
import { attention as attend } from "../../tensor/ops/attention.ts";
import { sum } from "../../tensor/ops/reduce.ts";
import { packing } from "../../tensor/packing.ts";
import { Parameter, ParameterStore } from "../../tensor/params.ts";
import type { DayContext, DayItem } from "../item.ts";
import { Budget, pace, rate } from "../pace.ts";

/** Heads of 64 and of 128 columns, as small and larger models have them. */
const heads = [
  { heads: 9, kvHeads: 3, headDim: 64 },
  { heads: 8, kvHeads: 2, headDim: 128 },
];

export const attention: DayItem = {
  name: "attention",
  summary: "attention over whole sequences, forward and with gradients",
  share: 40,
  async run({ model, seconds, tell }: DayContext) {
    const budget = new Budget(seconds);
    const [sequences, tokens] = model.batch;
    const cases = heads.flatMap((shape) => model.lengths.map((length) => ({ shape, length })));
    for (const [at, { shape, length }] of cases.entries()) {
      const count = Math.max(1, Math.floor((sequences * tokens) / length));
      const lengths: number[] = new Array(count).fill(length);
      const run = () => attend(qkv.value, packing(lengths), shape);
      const columns = (shape.heads + 2 * shape.kvHeads) * shape.headDim;
      const qkv = new Parameter([count * length, columns], { normal: 1 });
      const store = new ParameterStore([qkv], "queries, keys and values").initialize(1).trainable();
      const each = budget.shareOf(cases.length - at) / 2;
      try {
        // Two products of a half of length x length, for each head; the gradient takes five more.
        const forward = 2 * count * length * length * shape.heads * shape.headDim;
        const what = `heads of ${shape.headDim}, ${count} x ${length} tokens`;
        const seen = await pace(() => void noGrad(run), each);
        tell({ what: `attention, ${what}`, unit: "GFLOP/s", ...bounded(rate(forward, seen)) });
        const learned = await pace(() => backward(sum(run())), each);
        tell({ what: `attention with gradients, ${what}`, unit: "GFLOP/s", ...bounded(rate(3.5 * forward, learned)) });
      } finally {
        store.destroy();
      }
    }
  },
};

const bounded = <R extends { value: number }>(found: R) => ({
  ...found,
  bound: { ceiling: "f32 multiply-adds", reached: found.value } as const,
});
