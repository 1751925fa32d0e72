/** The studio's worker: models from anywhere, the trainers, and what was trained. It holds one base model at a time. */
import { stats } from "webrlhf";
import { serveSession } from "webrlhf/worker";
import { bench } from "./bench.ts";
import { chatProgram } from "./chat.ts";
import { summary } from "./data.ts";
import { look } from "./look.ts";
import { openProgram } from "./open.ts";
import { pairProgram } from "./pair.ts";
import { pick, studioFiles } from "./places.ts";
import type { Asked, DataFile, Thought } from "./protocol.ts";
import { drop, shelved, zipped } from "./shelf.ts";
import { train } from "./train.ts";

// Files that were picked come beside the session's own messages: a new worker is given them before it is asked anything.
addEventListener("message", ({ data }) => {
  if (data?.type === "picked") pick(data.files);
});

interface ZipInput {
  name: string;
  base: string;
  readme: string;
}

serveSession({
  files: studioFiles,
  programs: { open: openProgram, chat: chatProgram, pair: pairProgram, train },
  queries: {
    /** The estimate rehearses on the device: it has it to itself. */
    look: (asked: Asked & { train: Thought }, { signal }) => look(asked, signal),
    data: { answer: (file: DataFile, { signal }) => summary(file, signal), anytime: true },
    shelf: { answer: () => shelved(), anytime: true },
    drop: { answer: (name: string) => drop(name), anytime: true },
    zip: {
      answer: ({ name, base, readme }: ZipInput, { signal }) => zipped(name, base, readme, signal),
      anytime: true,
    },
    /** Bytes on the GPU that the worker holds. */
    held: { answer: async () => stats().poolBytes, anytime: true },
    /** Gives the GPU's memory back. */
    free: async () => bench.close(),
  },
});
