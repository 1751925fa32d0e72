/** Generating with a KV cache and sampling on the GPU; checked against the same tokens without a cache. */
import { noGrad, packing, scope, tensor } from "webrlhf";
import { CausalLM, generate } from "webrlhf/nn";
import { type Case, difference } from "./harness.ts";
import { smallTransformer } from "./training.ts";

const PROMPT = 8;
const NEW = 64;

/** Tokens per second over whole calls: prefill of 8 tokens per sequence, then 64 new ones. */
export function decodeCase(sequences: number): Case {
  const { vocabSize } = smallTransformer;
  const prompts = Array.from({ length: sequences }, (_, s) =>
    Uint32Array.from({ length: PROMPT }, (_, i) => (s * 31 + i * 17) % vocabSize),
  );
  let expected = new Float32Array();
  return {
    name: `decode ${NEW} tokens x${sequences}`,
    unit: "tok/s",
    work: sequences * NEW,
    tolerance: 1e-4,
    error: (result) => difference(result, expected),
    async arms() {
      const model = new CausalLM(smallTransformer, "bench model");
      model.store.initialize(1);
      const complete = () => generate(model, prompts, { maxNewTokens: NEW, seed: 1 });
      return [
        {
          name: "webrlhf",
          async time(times) {
            const start = performance.now();
            for (let i = 0; i < times; i++) await complete();
            return (performance.now() - start) / 1e3;
          },
          async result() {
            const completions = await complete();
            expected = await uncached(
              model,
              prompts,
              completions.map(({ ids }) => ids),
            );
            return Float32Array.from(completions.flatMap(({ logProbs }) => [...logProbs]));
          },
          dispose: () => model.destroy(),
        },
      ];
    },
  };
}

/** Log-probabilities of the responses from one forward pass over whole sequences. */
async function uncached(model: CausalLM, prompts: Uint32Array[], responses: Uint32Array[]) {
  const sequences = prompts.map((prompt, s) => Uint32Array.from([...prompt, ...responses[s]]));
  const ids = Uint32Array.from(sequences.flatMap((sequence) => [...sequence]));
  const rows: number[] = [];
  const targets: number[] = [];
  let at = 0;
  sequences.forEach((sequence, s) => {
    for (let i = prompts[s].length; i < sequence.length; i++) {
      rows.push(at + i - 1);
      targets.push(sequence[i]);
    }
    at += sequence.length;
  });
  const logProbs = scope(() =>
    noGrad(() => {
      const packed = packing(sequences.map((sequence) => sequence.length));
      const batch = { gpu: tensor(ids), host: ids };
      return model.logProbs(batch, packed, Uint32Array.from(rows), Uint32Array.from(targets)).logProbs;
    }),
  );
  const values = await logProbs.read();
  logProbs.free("the bench");
  return values;
}
