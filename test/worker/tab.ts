/** Another tab of the same page: it begins a run, and tells who opened it how far that is. */
import { createSession } from "webrlhf/worker";
import { startWorker } from "./start-worker.ts";

const session = createSession(() => startWorker(), { autosave: { folder: "tab-test" } });
const run = session.run({ program: "count", input: { to: 9, save: 3 } }, { mode: "step" });
run.subscribe(({ id, state, events }) => {
  parent.postMessage({ tab: id, state, events: events.length });
  if (state === "paused" && events.length < 20) run.step();
});
