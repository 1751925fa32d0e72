import { chartStyle } from "webrlhf/report";
import recordedRun from "../fixtures/recorded.json?url";
import { App, type Recording } from "./page/app.ts";
import "./style.css";

document.head.append(Object.assign(document.createElement("style"), { textContent: chartStyle }));
const app = new App(document.getElementById("app") as HTMLElement);

/** The recorded run is a courtesy: without it the page works, only emptier. */
const recording = await fetch(recordedRun)
  .then((response) => response.json() as Promise<Recording>)
  .catch(() => null);
app.start(recording);
