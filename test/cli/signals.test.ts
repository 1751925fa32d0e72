/** Signals that ask a program to end: what is kept, how it ends, and that it goes on. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { main } from "webrlhf/cli";
import { gpuReady } from "../helpers.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
beforeAll(async () => {
  process.setMaxListeners(100);
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-signals-"));
});
afterAll(() => rm(dir, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

const shape = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --max_position_embeddings 64";
const rows = "--max_train_samples 16 --per_device_train_batch_size 4 --max_steps 4 --logging_steps 1 --seed 3";

/** Trains in a folder. `send` gets every line that is said, and may send a signal. */
async function sft(folder: string, send: (text: string) => void, ...more: string[]): Promise<number> {
  const terminal = silentTerminal();
  terminal.line = send;
  return main(["sft", ...`${shape} ${rows}`.split(" "), "--output_dir", join(dir, folder), ...more], terminal);
}

const state = async (folder: string): Promise<string> =>
  JSON.parse(await readFile(join(dir, folder, "run.json"), "utf8")).state;

/** Every file with its bytes, less the clock's. */
async function contents(folder: string): Promise<Map<string, string>> {
  const names = (await readdir(join(dir, folder))).filter((name) => name !== "timing.jsonl");
  return new Map(
    await Promise.all(
      names.map(async (name) => [name, await readFile(join(dir, folder, name), "base64")] as [string, string]),
    ),
  );
}

const signals = [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const;

describe("the first signal", () => {
  it.each(signals)(
    "%s keeps a checkpoint, ends with %i and lets the run go on to the same end",
    async (signal, code) => {
      const heard = process.listenerCount(signal);
      let sent = false;
      const send = (text: string) => {
        if (sent || !/step 2\b|\b2\/4/.test(text)) return;
        sent = true;
        process.emit(signal);
      };
      expect(await sft(signal, send)).toBe(code);
      expect(sent).toBe(true);
      expect((await readdir(join(dir, signal))).filter((name) => name.startsWith("checkpoint-"))).toHaveLength(1);
      expect(await state(signal)).toBe("stopped");
      expect(await readdir(join(dir, signal))).not.toContain("model.safetensors");
      expect(process.listenerCount(signal)).toBe(heard);
      expect(await sft(signal, () => {}, "--resume")).toBe(0);
      expect(await sft(`${signal}-whole`, () => {})).toBe(0);
      expect(await contents(signal)).toEqual(await contents(`${signal}-whole`));
    },
  );
});

describe("what cannot or shall not wait ends at once", () => {
  it.each(signals)("a second %s, with %i", async (signal, code) => {
    const exit = vi.spyOn(process, "exit").mockReturnValue(undefined as never);
    let sent = false;
    const send = () => {
      if (sent) return;
      sent = true;
      process.emit("SIGINT");
      expect(exit).not.toHaveBeenCalled();
      process.emit(signal);
    };
    await sft(`twice-${signal}`, send);
    expect(exit.mock.calls).toEqual([[code]]);
  });

  it.each(signals)("%s to a verb that does its work anew, with %i", async (signal, code) => {
    const exit = vi.spyOn(process, "exit").mockReturnValue(undefined as never);
    const terminal = silentTerminal();
    terminal.line = () => {
      if (!exit.mock.calls.length) process.emit(signal);
    };
    const words = ["--dataset_name", "builtin:world", "--output_dir", join(dir, `tokenizer-${signal}`)];
    await main(["tokenizer", "train", ...words], terminal);
    expect(exit).toHaveBeenCalledWith(code);
  });
});
