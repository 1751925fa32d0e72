/** Runs the lessons outside the page and keeps what the worker would have said. */
import { diskFiles, type Files, memoryFiles, openDevice } from "webrlhf";
import { exhibits, knobsOf } from "./exhibits.ts";
import { lesson } from "./lesson.ts";
import type { Knobs, Reply } from "./protocol.ts";
import { otherSeed, pack, type Recording, viewOf } from "./recording.ts";

/**
 * One recording of each question.
 * @param folder the language model to start from
 * @param only the questions' names; default: all
 */
export async function record(
  folder: string,
  log: (line: string) => void,
  only: readonly string[] = exhibits.map(({ name }) => name),
): Promise<Recording[]> {
  const disk = await diskFiles();
  const files = memoryFiles();
  for (const file of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]) {
    await files.writeFile(`start/${file}`, (await disk.read(`${folder}/${file}`)) as Uint8Array);
  }
  const recordings: Recording[] = [];
  for (const exhibit of exhibits.filter(({ name }) => only.includes(name))) {
    const knobs = knobsOf(exhibit);
    log(exhibit.name);
    const replies = pack(await told(files, knobs));
    const others = [];
    for (const seed of exhibit.otherSeeds ?? []) {
      log(`${exhibit.name}, seed ${seed}`);
      others.push(otherSeed(seed, viewOf(pack(await told(files, { ...knobs, seed })))));
    }
    recordings.push({ knobs, replies, others });
  }
  return JSON.parse(JSON.stringify(recordings, rounded));
}

async function told(files: Files, knobs: Knobs): Promise<Reply[]> {
  const { name, kind } = await openDevice();
  const replies: Reply[] = [{ type: "ready", device: { name, kind } }];
  for await (const reply of lesson({ files, folder: "start" }, knobs, new AbortController().signal)) {
    if (reply.type !== "enter") replies.push(reply);
  }
  replies.push({ type: "state", phase: "done", stage: "after" });
  return replies;
}

/** Learning rates must stay what they are: a recording is found by its knobs. */
const rounded = (key: string, value: unknown) =>
  typeof value === "number" && !Number.isInteger(value) && key !== "learningRate"
    ? Number(value.toPrecision(4))
    : value;
