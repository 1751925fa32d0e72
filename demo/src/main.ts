import { chartStyle } from "webrlhf/report";
import recordedRuns from "../fixtures/recorded.json?url";
import { App } from "./page/app.ts";
import type { Recording } from "./recording.ts";
import "./style.css";

document.head.append(Object.assign(document.createElement("style"), { textContent: chartStyle }));
const app = new App(document.getElementById("app") as HTMLElement);

/** The recorded runs are a courtesy: without them the page works, only emptier. */
const recordings = await fetch(recordedRuns)
  .then((response) => response.json() as Promise<Recording[]>)
  .catch(() => []);
app.start(recordings);
