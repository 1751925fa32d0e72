import { describe, expect, it } from "vitest";
import { Gate } from "../../demo/src/playground/gate.ts";

/** A run of ten steps behind a gate. */
function walk(gate: Gate) {
  const seen = { steps: 0, waits: 0 };
  const done = (async () => {
    for (; seen.steps < 10; ) {
      await gate.pass(false, () => seen.waits++); // something between two steps
      seen.steps++;
      await gate.pass(true, () => seen.waits++);
    }
  })();
  return { seen, done };
}

const idle = () => new Promise((resolve) => setTimeout(resolve, 1));

describe("the gate", () => {
  it("lets a run through that nobody pauses", async () => {
    const { seen, done } = walk(new Gate());
    await done;
    expect(seen).toEqual({ steps: 10, waits: 0 });
  });

  it("lets single steps through, then the rest", async () => {
    const gate = new Gate("step");
    const { seen, done } = walk(gate);
    await idle();
    expect(seen).toEqual({ steps: 1, waits: 1 });
    expect(gate.waiting).toBe(true);
    gate.step();
    await idle();
    expect(seen).toEqual({ steps: 2, waits: 2 });
    gate.resume();
    await done;
    expect(seen).toEqual({ steps: 10, waits: 2 });
    expect(gate.waiting).toBe(false);
  });

  it("stops a run at the next thing it says", async () => {
    const gate = new Gate();
    gate.pause();
    const { seen, done } = walk(gate);
    await idle();
    expect(seen).toEqual({ steps: 0, waits: 1 });
    gate.resume();
    await done;
  });
});
