/** A program without a GPU: it counts, keeps its state in its files, and can be told to go wrong. */
import type { Program } from "webrlhf/worker";

export interface CountInput {
  to: number;
  /** Saves at every so many steps. */
  save?: number;
  seed?: number;
  /** Throws at this step. */
  failAt?: number;
}

export type CountEvent =
  | { type: "start"; step: number }
  | { type: "token"; step: number; token: number }
  | { type: "phase"; step: number; phase: string }
  | { type: "step"; step: number; value: Float32Array }
  | { type: "checkpoint"; step: number }
  | { type: "end"; step: number; sum: number };

/** Programs at work now. */
export const atWork = new Set<string>();

const pause = () => new Promise<void>((resolve) => setTimeout(resolve));

export const counting: Program<CountInput, CountEvent> = {
  device: false,
  async *run({ to, save = 2, seed = 1, failAt }, { runId, files, folder, signal }) {
    atWork.add(runId);
    try {
      const saved = await files.read(`${folder}/state.json`);
      let { step, sum } = saved ? JSON.parse(new TextDecoder().decode(saved)) : { step: 0, sum: seed };
      yield { type: "start", step };
      while (step < to) {
        await pause();
        step += 1;
        if (step === failAt) throw new Error(`step ${step} went wrong`);
        yield { type: "token", step, token: 0 };
        yield { type: "token", step, token: 1 };
        yield { type: "phase", step, phase: "sample" };
        sum = (sum * 31 + step) % 1009;
        yield { type: "step", step, value: Float32Array.of(sum / 7) };
        if (signal.aborted) return;
        if (step % save !== 0) continue;
        await files.writeFile(`${folder}/state.json`, JSON.stringify({ step, sum }));
        yield { type: "checkpoint", step };
      }
      yield { type: "end", step, sum };
    } finally {
      await pause();
      atWork.delete(runId);
    }
  },
};
