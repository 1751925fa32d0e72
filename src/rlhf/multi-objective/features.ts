/** The features of a multi-objective reward model: hidden states of a frozen model after its final norm. */
import type { Tokenizer } from "../../data/tokenizer.ts";
import type { Model } from "../../nn/models.ts";
import { UserError } from "../../runtime/errors.ts";
import { endRows, pack, type Sequence } from "../batch.ts";
import { inPasses } from "../passes.ts";
import type { SequenceFeatures } from "./head.ts";

/** How the families of the published models end a prompt and begin the answer. */
const PATTERNS = [
  "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", // Llama 3
  "<end_of_turn>\n<start_of_turn>model\n", // Gemma 2
];

/** The pattern of the tokenizer's family; null where it is neither. */
export function promptPattern(tokenizer: Tokenizer): number[] | null {
  for (const text of PATTERNS) {
    const first = text.slice(0, text.indexOf(">") + 1);
    if (tokenizer.tokenToId(first) !== undefined) return tokenizer.encode(text, { continued: true });
  }
  return null;
}

/**
 * The token at which a prompt is embedded: where the last occurrence of the pattern starts, which is the token that closes
 * the user's message. Without a pattern it is the prompt's last token.
 * @throws UserError when the sequence has no such pattern
 */
export function promptEnd({ ids, promptLength }: Sequence, pattern: readonly number[] | null): number {
  if (!pattern) return Math.max(0, promptLength - 1);
  for (let at = ids.length - pattern.length; at >= 0; at--) if (pattern.every((id, i) => ids[at + i] === id)) return at;
  throw new UserError(
    `the prompt of a sequence does not end as this model's chat template ends prompts (token ids ${pattern.join(", ")}): ` +
      "write the data with the model's chat template (template chat)",
  );
}

/**
 * Hidden states of every sequence at its last token and at the end of its prompt.
 * @param progress told after every batch how many sequences are done
 */
export async function sequenceFeatures(
  model: Model,
  sequences: readonly Sequence[],
  pattern: readonly number[] | null,
  progress: (done: number) => void = () => {},
): Promise<SequenceFeatures> {
  const width = model.config.hiddenSize;
  const last = new Float32Array(sequences.length * width);
  const prompt = new Float32Array(sequences.length * width);
  await inPasses(model, sequences, {
    compute(part) {
      const { ids, packing, starts } = pack(part);
      const prompts = part.map((sequence, i) => starts[i] + promptEnd(sequence, pattern));
      const rows = Uint32Array.from([...endRows(part, starts), ...prompts]);
      return model.hidden(ids, packing, rows);
    },
    receive(values, part, first) {
      last.set(values.subarray(0, part.length * width), first * width);
      prompt.set(values.subarray(part.length * width), first * width);
      progress(first + part.length);
    },
  });
  return { last: { data: last, width }, prompt: { data: prompt, width } };
}
