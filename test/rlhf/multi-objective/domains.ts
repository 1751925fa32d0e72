/** A gate to train, and pairs that show it what to do. */
import { fitHead, headOf, type MultiObjectiveHead, type PairFeatures } from "webrlhf/rlhf";
import { normal, uniform } from "../../../src/runtime/rng.ts";

/** Two domains by the sign of the prompt's first feature; in one the first attribute decides, in the other the second. */
export function domains(count: number): { pairs: PairFeatures; head: MultiObjectiveHead } {
  const width = 4;
  const rated = Float32Array.from({ length: 64 * width }, (_, i) => normal(1, i));
  const labels = Float64Array.from({ length: 64 * 3 }, (_, i) => rated[Math.floor(i / 3) * width + (i % 3)]);
  const fit = fitHead(
    { rated: { data: rated, width }, labels, attributes: ["x", "y", "long"] },
    { seed: 1, verbosityAttribute: "long" },
  );
  const gating = { hidden_size: 8, n_hidden: 1, temperature: 1 };
  const rest = { base_model_name_or_path: "base", verbosity_attribute: "long", prompt_pattern: null, gating };
  const head = headOf(fit, { ...rest, hidden_size: width, attribute_weights: null }, 5);
  const last = [new Float32Array(count * width), new Float32Array(count * width)];
  const prompt = new Float32Array(count * width);
  for (let i = 0; i < count; i++) {
    const first = uniform(2, i) < 0.5;
    for (let j = 0; j < width; j++) prompt[i * width + j] = j === 0 ? (first ? 1 : -1) : normal(3, i, j);
    const [a, b] = [0, 1].map((side) => Array.from({ length: width }, (_, j) => normal(4, i, j, side)));
    const [better, worse] = a[first ? 0 : 1] > b[first ? 0 : 1] ? [a, b] : [b, a];
    last[0].set(better, i * width);
    last[1].set(worse, i * width);
  }
  const side = (data: Float32Array) => ({ last: { data, width }, prompt: { data: prompt, width } });
  return { pairs: { chosen: side(last[0]), rejected: side(last[1]) }, head };
}
