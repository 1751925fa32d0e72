/** Runs a lesson outside the page and keeps what the worker would have said. */
import { diskFiles, memoryFiles, openDevice } from "webrlhf";
import { defaultKnobs } from "./knobs.ts";
import { lesson } from "./lesson.ts";
import type { Reply } from "./protocol.ts";

/** What the page shows of a step; the rest would only make the recording large. */
const shown = ["accuracy", "loss", "reward", "gold", "kl"];

/** @param folder the language model to start from */
export async function record(folder: string, log: (line: string) => void) {
  const { name, kind } = await openDevice();
  const disk = await diskFiles();
  const files = memoryFiles();
  for (const file of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]) {
    await files.writeFile(`start/${file}`, (await disk.read(`${folder}/${file}`)) as Uint8Array);
  }
  const replies: Reply[] = [{ type: "ready", device: { name, kind } }];
  for await (const reply of lesson({ files, folder: "start" }, defaultKnobs, new AbortController().signal)) {
    if (reply.type === "enter") continue;
    if (reply.type === "event" && reply.event.type === "step") {
      const { event } = reply;
      log(`${reply.stage} ${event.step}/${event.maxSteps}`);
      const metrics = Object.fromEntries(Object.entries(event.metrics).filter(([key]) => shown.includes(key)));
      replies.push({ ...reply, event: { ...event, metrics } });
    } else {
      replies.push(reply);
    }
  }
  replies.push({ type: "state", phase: "done", stage: "after" });
  return JSON.parse(JSON.stringify({ knobs: defaultKnobs, replies }, rounded));
}

const rounded = (_: string, value: unknown) =>
  typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
