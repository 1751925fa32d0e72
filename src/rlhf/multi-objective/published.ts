/**
 * The layout in which ArmoRM is published (RLHFlow/ArmoRM-Llama3-8B-v0.1): backbone, regressions, transform and gate in one
 * folder, sizes of the gate in config.json.
 */
import { openModel, readConfig } from "../../io/model-files.ts";
import { UserError } from "../../runtime/errors.ts";
import type { Files } from "../../runtime/files.ts";
import { type HeadConfig, loadGate, MultiObjectiveHead } from "./head.ts";

const CLASS = "LlamaForRewardModelWithGating";

/** The objectives of ArmoRM, which its files do not name. */
const OBJECTIVES = [
  ...["helpfulness", "correctness", "coherence", "complexity", "verbosity"].map((name) => `helpsteer-${name}`),
  ...["overall_score", "instruction_following", "truthfulness", "honesty", "helpfulness"].map(
    (name) => `ultrafeedback-${name}`,
  ),
  "beavertails-is_safe",
  "prometheus-score",
  "argilla-overall_quality",
  "argilla-judge_lm",
  ...["complexity", "style", "explanation", "instruction-following", "readability"].map((name) => `code-${name}`),
];

/** Whether a folder holds such a model, by the class that its config.json names. */
export async function isPublishedHead(files: Files, path: string): Promise<boolean> {
  if (!(await files.read(`${path}/config.json`))) return false;
  const { config } = await readConfig(files, path);
  return [config.architectures].flat().includes(CLASS);
}

/**
 * Opens the head of such a folder, whose model is its own backbone.
 * @param name what the folder is called, for the head's config
 * @param pattern token ids that end a prompt
 * @throws UserError naming the field or tensor that does not fit
 */
export async function openPublishedHead(
  files: Files,
  path: string,
  name: string,
  pattern: readonly number[],
): Promise<MultiObjectiveHead> {
  const { config, configFile, weights } = await openModel(files, path);
  try {
    const size = (key: string, absent: number): number => {
      const value = config[key] ?? absent;
      if (typeof value === "number" && value > 0) return value;
      throw new UserError(`${configFile}: ${key} must be a positive number, not ${JSON.stringify(value)}`);
    };
    const n = size("num_objectives", OBJECTIVES.length);
    const attributes = n === OBJECTIVES.length ? OBJECTIVES : Array.from({ length: n }, (_, k) => `objective_${k}`);
    const head: HeadConfig = {
      base_model_name_or_path: name,
      attributes,
      verbosity_attribute: null, // the transform says what of it is taken out
      verbosity_penalties: attributes.map(() => 0),
      prompt_pattern: [...pattern],
      hidden_size: size("hidden_size", 0),
      gating: {
        hidden_size: size("gating_hidden_dim", 1024),
        n_hidden: size("gating_n_hidden", 3),
        temperature: size("gating_temperature", 10),
      },
      attribute_weights: null,
      regression: [],
    };
    const read = async (tensor: string, expected: readonly number[]): Promise<Float32Array> => {
      const there = weights.names.includes(tensor) ? weights.info(tensor).shape : null;
      if (there && there.length === expected.length && there.every((side, i) => side === expected[i])) {
        return weights.read(tensor);
      }
      const found = there ? `has shape [${there}], but config.json asks for [${expected}]` : "is missing";
      throw new UserError(`${weights.label}: tensor ${tensor} ${found}`);
    };
    const gate = MultiObjectiveHead.gateOf(head)!;
    try {
      const regression = await read("regression_layer.weight", [n, head.hidden_size]);
      const transform = await read("reward_transform_matrix", [n, n]);
      const values = new Map<string, Float32Array>();
      for (const { name, shape } of gate.store.parameters)
        values.set(`gating.${name}`, await read(`gating.${name}`, shape));
      loadGate(gate, (tensor) => values.get(tensor) as Float32Array);
      return new MultiObjectiveHead(head, { regression, transform }, gate);
    } catch (error) {
      gate.destroy();
      throw error;
    }
  } finally {
    await weights.close();
  }
}
