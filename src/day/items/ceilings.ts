/** What the adapter cannot do faster: arithmetic, memory, dispatches, reads and writes. */
import { finish, stats } from "../../gpu/stream.ts";
import { noise } from "../../runtime/noise.ts";
import { type Tensor, zeros } from "../../tensor/core.ts";
import { multiplyAdds, sharedReads } from "../../tensor/ops/ceilings.ts";
import { addInto, fill } from "../../tensor/raw.ts";
import type { DayContext, DayItem } from "../item.ts";
import { Budget, pace, paceOfCalls, rate } from "../pace.ts";

export const ceilings: DayItem = {
  name: "ceilings",
  summary: "how fast arithmetic, memory, dispatches and transfers can be",
  share: 15,
  async run({ caps, seconds, tell }: DayContext) {
    const budget = new Budget(seconds);
    const gpu = caps.kind === "hardware";
    const invocations = gpu ? 2 ** 20 : 2 ** 12;

    for (const type of caps.f16 ? (["f32", "f16"] as const) : (["f32"] as const)) {
      let operations = gpu ? 2e11 : 2e9;
      const work = () => {
        [, operations] = multiplyAdds(operations, type, invocations);
      };
      const found = await pace(work, budget.shareOf(9));
      tell({ what: `${type} multiply-adds`, unit: "GFLOP/s", ...rate(operations, found) });
    }

    let bytes = gpu ? 2e11 : 2e9;
    const shared = await pace(() => {
      [, bytes] = sharedReads(bytes, invocations);
    }, budget.shareOf(7));
    tell({ what: "workgroup memory, reads of 16 bytes", unit: "GB/s", ...rate(bytes, shared) });

    // More than caches hold, within what an adapter binds.
    const size = Math.min(gpu ? 2 ** 28 : 2 ** 24, caps.maxBinding) / 4;
    const [a, b] = [zeros([size]), zeros([size])];
    const copied = await pace(() => addInto(b, a), budget.shareOf(6));
    tell({ what: "memory", unit: "GB/s", ...rate(12 * size, copied), how: `y += x of ${size} numbers` });
    for (const t of [a, b]) t.free("the day");

    await dispatches("one after the other", [zeros([64])], budget.shareOf(5), tell);
    await dispatches(
      "beside each other",
      Array.from({ length: 16 }, () => zeros([64])),
      budget.shareOf(4),
      tell,
    );

    const small = zeros([1]);
    const read = await paceOfCalls(() => small.read(), budget.shareOf(3));
    tell({ what: "reading 4 bytes back", unit: "µs", ...inMicroseconds(read) });
    small.free("the day");

    const large = zeros([2 ** 22]);
    const values = noise(2 ** 22, 1);
    const back = await paceOfCalls(() => large.read(), budget.shareOf(2));
    tell({ what: "reading 16 MiB back", unit: "GB/s", ...rate(2 ** 24, back) });
    const sent = await paceOfCalls(() => {
      large.write(values);
      return finish();
    }, budget.shareOf(1));
    tell({ what: "writing 16 MiB", unit: "GB/s", ...rate(2 ** 24, sent) });
    large.free("the day");
  },
};

const inMicroseconds = ({ median, best, samples }: { median: number; best: number; samples: number }) => ({
  value: median * 1e6,
  best: best * 1e6,
  samples,
});

/** A dispatch with next to no work: in a row on one buffer they wait for each other. */
async function dispatches(how: string, targets: Tensor[], seconds: number, tell: DayContext["tell"]): Promise<void> {
  const each = 2000;
  const before = stats().dispatches;
  const work = () => {
    for (let i = 0; i < each; i++) fill(targets[i % targets.length], i);
  };
  work();
  const count = stats().dispatches - before;
  const { median, best, samples } = await pace(work, seconds);
  tell({
    what: `a dispatch, ${how}`,
    unit: "µs",
    ...inMicroseconds({ median: median / count, best: best / count, samples }),
  });
  for (const t of targets) t.free("the day");
}
