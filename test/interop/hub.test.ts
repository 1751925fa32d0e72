// Runs where WEBRLHF_PYTHON names a Python with `huggingface_hub`.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { parseRepo, type Repo, resolveModel } from "webrlhf";
import { diskStore } from "../../src/runtime/hub-disk.ts";
import { fakeHub, sha256 } from "../io/fake-hub.ts";

const python = process.env.WEBRLHF_PYTHON;
if (!python) console.log("skipped: set WEBRLHF_PYTHON to a Python with huggingface_hub to share a cache with it");

const COMMIT = "89abcdef0123456789abcdef0123456789abcdef";
const weights = Uint8Array.from({ length: 50_000 }, (_, i) => (i * 37) & 255);
const files = { "config.json": "{}", "tokenizer.json": '{"a": 1}', "model.safetensors": weights };

describe.skipIf(!python)("huggingface_hub in Python", () => {
  const run = async (env: Record<string, string>, ...args: string[]) => {
    const script = fileURLToPath(new URL("./check_hub.py", import.meta.url));
    const { stdout } = await promisify(execFile)(python as string, [script, ...args], {
      env: { ...process.env, HF_HUB_DISABLE_XET: "1", HF_HUB_DISABLE_TELEMETRY: "1", ...env },
    });
    return JSON.parse(stdout.trim().split("\n").at(-1) as string) as Record<string, string>;
  };

  it("reads offline what this project loaded, and the other way round", async () => {
    const cache = await mkdtemp(join(tmpdir(), "webrlhf-hub-"));
    const hub = await fakeHub({
      "org/ours": { commit: COMMIT, files },
      "org/theirs": { commit: COMMIT, files },
    });
    try {
      const store = diskStore(cache);
      const ours = await resolveModel(parseRepo("org/ours") as Repo, "model", { store, endpoint: hub.endpoint });
      const names = Object.keys(files);
      const read = await run({ HF_HUB_CACHE: cache, HF_HUB_OFFLINE: "1" }, "read", "org/ours", ...names);
      expect(read.folder).toBe(ours);
      for (const name of names) expect(read[name]).toBe(sha256(await readFile(join(ours, name))));

      const filled = await run({ HF_HUB_CACHE: cache, HF_ENDPOINT: hub.endpoint }, "fill", "org/theirs");
      const theirs = await resolveModel(parseRepo("org/theirs") as Repo, "model", { store, offline: true });
      expect(theirs).toBe(filled.folder);
      expect((await readFile(join(theirs, "model.safetensors"))).equals(weights)).toBe(true);
    } finally {
      await hub.close();
      await rm(cache, { recursive: true });
    }
  });
});
