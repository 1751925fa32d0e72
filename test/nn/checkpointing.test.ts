import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { backward, mean, packing, scope, stats, type Tensor, tensor } from "webrlhf";
import { CausalLM, decoderConfig, withDropout } from "webrlhf/nn";
import { trim } from "../../src/gpu/stream.ts";
import { gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

const opened: CausalLM[] = [];
afterEach(() => {
  for (const model of opened.splice(0)) model.destroy();
});

const shape = { vocabSize: 48, hiddenSize: 32, layers: 4, heads: 2, kvHeads: 1 };

function open(family: "gpt2" | "llama"): CausalLM {
  const { kvHeads, ...rest } = shape;
  const model = new CausalLM(decoderConfig({ family, ...rest, ...(family === "llama" && { kvHeads }) })).initialize(5);
  opened.push(model);
  return model;
}

/** One forward and backward pass over two sequences. */
function step(model: CausalLM, length = 9): void {
  const host = Uint32Array.from({ length: 2 * length }, (_, i) => (i * 7) % shape.vocabSize);
  const rows = host.map((_, i) => i);
  scope(() => {
    const packed = packing([length, length]);
    backward(mean(model.logProbs({ gpu: tensor(host), host }, packed, rows, host).logProbs));
  });
}

describe("gradient checkpointing", () => {
  it.each(["gpt2", "llama"] as const)("gives a %s model the same gradients to the bit", async (family) => {
    const model = open(family);
    model.store.trainable();
    const gradients = async (checkpointing: boolean) => {
      model.store.zeroGrad();
      model.gradientCheckpointing = checkpointing;
      step(model);
      return Promise.all(model.store.parameters.map(async (p) => [p.name, ...(await (p.value.grad as Tensor).read())]));
    };
    expect(await gradients(true)).toEqual(await gradients(false));
  });

  it("computes blocks again under the adapter and the dropout of the first time", async () => {
    const base = open("llama");
    const adapted = new CausalLM({ base, lora: { rank: 2, alpha: 4, dropout: 0.5, targets: "all-linear" } });
    opened.unshift(adapted);
    adapted.initialize(3);
    adapted.store.trainable();
    for (const { value, name } of adapted.store.parameters) {
      if (name.endsWith("lora_B")) value.write(Float32Array.from({ length: value.size }, (_, i) => Math.sin(i)));
    }
    const gradients = async (checkpointing: boolean) => {
      base.gradientCheckpointing = checkpointing;
      adapted.store.zeroGrad();
      withDropout({ seed: 1, step: 2, pass: 0 }, () => step(adapted));
      return Promise.all(
        adapted.store.parameters.map(async (p) => [p.name, ...(await (p.value.grad as Tensor).read())]),
      );
    };
    expect(await gradients(true)).toEqual(await gradients(false));
  });

  it("needs less memory", async () => {
    const model = open("llama");
    model.store.trainable();
    const peak = (checkpointing: boolean) => {
      trim();
      const before = stats().poolBytes;
      model.gradientCheckpointing = checkpointing;
      step(model, 256);
      return stats().poolBytes - before;
    };
    peak(true);
    expect(peak(true)).toBeLessThan(0.7 * peak(false));
  });
});
