/** The training worker: opens the device, then obeys. See protocol.ts. */
import { openDevice } from "webrlhf";
import { fetchStart } from "../lib/start-files.ts";
import type { Order, Report } from "./protocol.ts";
import { Runner } from "./runner.ts";

const page = globalThis as unknown as {
  postMessage(report: Report): void;
  onmessage: ((event: MessageEvent<Order>) => void) | null;
};
const post = (report: Report) => page.postMessage(report);

const runner = new Runner(fetchStart, post);

const device = openDevice();
page.onmessage = ({ data }) => {
  // Commands that come early wait for the device; without one the page has already been told.
  device.then(
    () => runner.handle(data),
    () => {},
  );
};
device.then(
  ({ name, kind }) => post({ run: 0, reply: { type: "ready", device: { name, kind } } }),
  (error: unknown) => post({ run: 0, reply: { type: "error", about: "webgpu", message: (error as Error).message } }),
);
