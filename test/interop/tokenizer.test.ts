// Runs where WEBRLHF_PYTHON names a Python with `tokenizers` and `transformers`.
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Tokenizer, trainBpe, worldSftRecords, worldTokenizer } from "webrlhf/data";

const python = process.env.WEBRLHF_PYTHON;
if (!python)
  console.log("skipped: set WEBRLHF_PYTHON to a Python with tokenizers and transformers to compare with them");

async function compare(tokenizer: Tokenizer, texts: string[]): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "webrlhf-tokenizer-"));
  try {
    await writeFile(join(folder, "tokenizer.json"), JSON.stringify(tokenizer.json));
    await writeFile(join(folder, "tokenizer_config.json"), JSON.stringify(tokenizer.configJson));
    const script = fileURLToPath(new URL("./check_tokenizer.py", import.meta.url));
    const result = spawnSync(python as string, [script], {
      input: JSON.stringify({ folder, texts }),
      encoding: "utf8",
    });
    expect(result.stderr === "" || result.status === 0 ? "" : result.stderr).toBe("");
    const theirs = JSON.parse(result.stdout);
    const ours = texts.map((text) => tokenizer.encode(text));
    expect(theirs.rust).toEqual(ours);
    expect(theirs.auto).toEqual(ours);
    expect(theirs.decoded).toEqual(ours.map((ids) => tokenizer.decode(ids, { skipSpecialTokens: false })));
    expect([theirs.eos, theirs.pad]).toEqual([tokenizer.eosId, tokenizer.padId]);
  } finally {
    await rm(folder, { recursive: true });
  }
}

describe.skipIf(!python)("tokenizers in Python", () => {
  it("read a trained tokenizer alike, for 1,000 random texts", async () => {
    const words = fc.constantFrom(
      " the",
      "The ",
      " it's",
      "\n",
      "  ",
      "über",
      " 日本語",
      "42",
      "<|endoftext|>",
      "🙂",
      "!?",
      " Tim",
    );
    const part = fc.oneof(words, words, fc.string({ unit: "grapheme", maxLength: 4 }));
    const texts = fc.sample(
      fc.array(part, { maxLength: 20 }).map((parts) => parts.join("")),
      { numRuns: 1000, seed: 1 },
    );
    await compare(Tokenizer.fromTrained(trainBpe(texts.slice(0, 200), { vocabSize: 600 })), texts);
  });

  it("read the built-in world's tokenizer alike", async () => {
    await compare(
      worldTokenizer(),
      worldSftRecords(200, 1).map((record) => record.prompt + record.completion),
    );
  });
});
