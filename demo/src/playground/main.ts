/** All knobs on one page. */
import { App } from "./page/app.ts";
import recordedRuns from "./recorded.json?url";
import type { Recording } from "./recording.ts";

/** Builds the playground inside an element and brings it to life. */
export async function mountPlayground(root: HTMLElement): Promise<void> {
  const app = new App(root);
  /** The recorded runs are a courtesy: without them the page works, only emptier. */
  const recordings = await fetch(recordedRuns)
    .then((response) => response.json() as Promise<Recording[]>)
    .catch(() => []);
  app.start(recordings);
}
