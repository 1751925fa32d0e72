/** Trains an adapter as the command line would, and takes it to the shelf. */
import type { TrainEvent } from "webrlhf/rlhf";
import { type Program, type RunContext, trainProgram } from "webrlhf/worker";
import { bench } from "./bench.ts";
import type { Kept, TrainInput } from "./protocol.ts";
import { keep } from "./shelf.ts";

export type StudioEvent = TrainEvent | { type: "kept"; kept: Kept };

export const train: Program<TrainInput, StudioEvent> = {
  async *run({ method, path, base, dtype, settings, data, keepAs, reward }, context) {
    bench.close(); // the trainer opens the base itself: two would not fit where one does
    const file = `data/${data.name}`;
    await context.files.writeFile(file, data.bytes);
    const places = {
      model_name_or_path: path,
      dataset_name: file,
      ...(reward !== null && { reward_model_path: `trained/${reward}`, base_model_name_or_path: path }),
    };
    let steps = 0;
    const within = context as RunContext<TrainEvent>; // what it told itself are a trainer's events
    const run: AsyncIterable<TrainEvent> = trainProgram.run({ method, settings: { ...settings, ...places } }, within);
    for await (const event of run) {
      if (event.type === "step" || event.type === "end") steps = event.step;
      yield event;
    }
    if (context.signal.aborted) return;
    const kept = { name: keepAs, method, base, dtype, steps, settings, dataName: data.name, reward, made: Date.now() };
    await keep(context.files, context.folder, kept, data.bytes);
    yield { type: "kept", kept };
  },
};
