import type { Tokenizer } from "../../data/tokenizer.ts";
import type { CausalLM } from "../../nn/models.ts";
import { textPerplexity } from "../../rlhf/perplexity.ts";
import { evaluateSft } from "../../rlhf/sft.ts";
import { UserError } from "../../runtime/errors.ts";
import { type DataChoice, sftData } from "../data/datasets.ts";
import { WORLD } from "../models/models.ts";
import type { Terminal } from "../terminal.ts";

/**
 * A policy's perplexity on held-out data: `perplexity` on the answers given their prompts (on whole texts where the data has
 * no prompts), and LMFlow's on all of it as one running text, `text_perplexity` (see `textPerplexity`).
 * @param choice which data; its test part where it is the built-in world
 * @param blockSize tokens from one window over the running text to the next
 */
export async function perplexities(
  policy: CausalLM,
  tokenizer: Tokenizer,
  choice: DataChoice,
  blockSize: number,
  terminal: Terminal,
): Promise<Record<string, number>> {
  const { maxPositions } = policy.config;
  const { train, eval: test } = await sftData(choice, tokenizer, { maxLength: maxPositions, all: false }, terminal);
  const sequences = choice.dataset_name === WORLD ? test : train;
  if (sequences.length === 0) throw new UserError(`${choice.dataset_name} has nothing to measure the perplexity on`);
  const text = sequences.map(({ ids }) => tokenizer.decode(ids)).join("\n\n");
  const { eval_perplexity: perplexity } = await evaluateSft(policy, sequences);
  const stride = Math.min(blockSize, maxPositions, 1024);
  return { perplexity, ...(await textPerplexity(policy, Uint32Array.from(tokenizer.encode(text)), { stride })) };
}
