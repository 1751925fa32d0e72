/** The training worker: opens the device, then obeys. See protocol.ts. */
import { openDevice } from "webrlhf";
import type { Start } from "./lesson.ts";
import type { Command, Reply } from "./protocol.ts";
import { Runner } from "./runner.ts";
import { fetchStart } from "./start-files.ts";

const page = globalThis as unknown as {
  postMessage(reply: Reply): void;
  onmessage: ((event: MessageEvent<Command>) => void) | null;
};
const post = (reply: Reply) => page.postMessage(reply);

let fetched: Promise<Start> | null = null;
const runner = new Runner(() => {
  fetched ??= fetchStart();
  return fetched;
}, post);

const device = openDevice();
page.onmessage = ({ data }) => {
  // Commands that come early wait for the device; without one the page has already been told.
  device.then(
    () => runner.handle(data),
    () => {},
  );
};
device.then(
  ({ name, kind }) => post({ type: "ready", device: { name, kind } }),
  (error: unknown) => post({ type: "error", about: "webgpu", message: (error as Error).message }),
);
