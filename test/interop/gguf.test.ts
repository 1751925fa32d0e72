/**
 * GGUF files of a trained model in the hands of others. The reference package reads every value that we read (needs a Python
 * with gguf: python3 on the PATH, or the one that WEBRLHF_PYTHON names); llama.cpp cuts a text into the same tokens and goes
 * on with the same ones (needs node-llama-cpp in the folder that WEBRLHF_LLAMA_CPP names). Skipped, with the reason, without.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { generate, ggufTypes, loadCausalLM, writeGguf } from "webrlhf/nn";
import { openTokenizer } from "webrlhf/open";
import { readGgufHeader } from "../../src/io/gguf.ts";
import { gpuReady } from "../helpers.ts";
import { python, whyNot } from "./python.ts";

const noReference = whyNot(["gguf"]);
const folder = resolve(process.env.WEBRLHF_LLAMA_CPP ?? "node_modules/..");
const noLlama = existsSync(join(folder, "node_modules/node-llama-cpp")) ? "" : `${folder} has no node-llama-cpp`;
const script = (name: string) => fileURLToPath(new URL(name, import.meta.url));

const MODEL = "models/world-sft";
const TEXT = "One day Sam walked to the park and";
const NEW_TOKENS = 24;

function answer(program: string, args: readonly string[]): Record<string, never> {
  const run = spawnSync(program, args, { encoding: "utf8", maxBuffer: 1 << 28 });
  if (run.status !== 0) throw new Error(`${args[0]} failed: ${run.stderr.slice(-4000)}`);
  return JSON.parse(run.stdout.trim().split("\n").at(-1) as string);
}

let dir = "";
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-gguf-"));
  const files = await diskFiles();
  for (const type of ggufTypes) await writeGguf(files, MODEL, join(dir, `${type}.gguf`), type);
});
afterAll(() => rm(dir, { recursive: true }));

describe.skipIf(noReference !== "")(`the reference package${noReference && ` (skipped: ${noReference})`}`, () => {
  it.each(ggufTypes)("%s: the same values and metadata", async (type) => {
    const path = join(dir, `${type}.gguf`);
    const { fields, tensors } = answer(python, [script("check_gguf_file.py"), path]);
    const file = (await (await diskFiles()).open(path))!;
    const header = await readGgufHeader(file, path);
    expect(Object.keys(tensors)).toEqual([...header.tensors.keys()]);
    for (const [name, { type, begin, end }] of header.tensors) {
      const values = type.decode(await file.read(begin, end - begin));
      const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      expect({ [name]: tensors[name] }).toEqual({ [name]: { type: type.name, sha256 } });
    }
    for (const [key, value] of header.metadata) {
      const plain = typeof value === "object" ? Array.from(value as ArrayLike<unknown>) : value;
      expect({ [key]: fields[key] }).toEqual({ [key]: plain });
    }
    await file.close();
  });
});

describe.skipIf(noLlama !== "")(`llama.cpp${noLlama && ` (skipped: ${noLlama})`}`, () => {
  beforeAll(gpuReady);

  it.each(ggufTypes)("%s: the same tokens of a text, and the same ones next", async (type) => {
    const path = join(dir, `${type}.gguf`);
    const ids = (await openTokenizer(path)).encode(TEXT);
    const theirs = answer("node", [script("check_llama_cpp.mjs"), folder, path, String(NEW_TOKENS), TEXT]);
    expect(theirs.prompt).toEqual(ids);
    const model = await loadCausalLM(await diskFiles(), path);
    const settings = { maxNewTokens: NEW_TOKENS, temperature: 0, seed: 1 };
    const [ours] = await generate(model, [Uint32Array.from(ids)], settings);
    expect(Array.from(ours.ids).length).toBeGreaterThan(3);
    expect(theirs.greedy).toEqual(Array.from(ours.ids));
    model.destroy();
  });
});
