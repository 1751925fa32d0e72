import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll } from "vitest";
import { diskFiles, openDevice } from "webrlhf";
import { CausalLM, modelFiles } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";

/** A folder for the tests of a file, with a tiny model in `base`; gives paths in it. Call it once per file. */
export function withBase(): (...names: string[]) => string {
  let root: string;
  const at = (...names: string[]) => path.join(root, ...names);
  beforeAll(async () => {
    process.setMaxListeners(100); // every run of the program listens for Ctrl-C
    await openDevice();
    root = await mkdtemp(path.join(tmpdir(), "webrlhf-"));
    const files = await diskFiles();
    const model = new CausalLM(tinyConfig()).initialize(1);
    await files.writeFolder(at("base"), { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
    model.destroy();
  });
  afterAll(() => rm(root, { recursive: true, force: true }));
  return at;
}
