/**
 * What a multi-objective reward model (ArmoRM, Wang et al. 2024) adds to a frozen model: the regression of every attribute
 * on the last token's hidden state, the transform that takes verbosity out of the others, and the weights of the
 * attributes: of a gate that reads the prompt, or fixed ones. score = sum_k g_k (r M)_k, with r = W h.
 */
import { parseSafetensors } from "../../io/safetensors.ts";
import { writeSafetensors } from "../../io/safetensors-write.ts";
import type { SelfSavingModel } from "../../nn/trained.ts";
import { UserError } from "../../runtime/errors.ts";
import { type FileContent, type Files, parseJson, readNeeded } from "../../runtime/files.ts";
import { noGrad, scope, tensor } from "../../tensor/core.ts";
import type { ParameterStore } from "../../tensor/params.ts";
import { transformed } from "./debias.ts";
import { GatingNetwork } from "./gate.ts";
import { type Features, project } from "./regression.ts";

const CONFIG = "multi_objective_config.json";
const TENSORS = "multi_objective.safetensors";

/** The contents of multi_objective_config.json. */
export interface HeadConfig {
  /** The frozen model whose hidden states are the features, by path or name. */
  base_model_name_or_path: string;
  attributes: string[];
  /** The attribute that was taken out of the others; null where none was. */
  verbosity_attribute: string | null;
  /** How much of it, by attribute. */
  verbosity_penalties: number[];
  /** Token ids that end a prompt, at whose first token it is embedded; null: at its last token. */
  prompt_pattern: number[] | null;
  /** Width of the features. */
  hidden_size: number;
  gating: { hidden_size: number; n_hidden: number; temperature: number } | null;
  /** Fixed weights of the attributes, where there is no gate. */
  attribute_weights: number[] | null;
  /** How the regressions were chosen. */
  regression: { attribute: string; alpha: number; validation_mse: number; rows: number }[];
}

/** Hidden states of some sequences, each [sequences, width]. */
export interface SequenceFeatures {
  /** At the last token. */
  last: Features;
  /** At the end of the prompt. */
  prompt: Features;
}

/** Scores of sequences, with the rewards and weights that they are sums of. */
export interface HeadScores {
  /** One per sequence. */
  scores: Float64Array;
  /** [sequences, attributes], verbosity taken out. */
  rewards: Float64Array;
  /** Weights of the attributes, [sequences, attributes]. */
  gates: Float64Array;
}

/** The head of a multi-objective reward model: regressions, a transform, and a gate or fixed weights. */
export class MultiObjectiveHead implements SelfSavingModel {
  readonly config: HeadConfig;
  readonly gate: GatingNetwork | null;
  /** [attributes, width] */
  private readonly regression: Float32Array;
  /** M, [attributes, attributes] */
  private readonly transform: Float32Array;

  /** @param gate in the shape that the config says; it belongs to the head from here on */
  constructor(
    config: HeadConfig,
    weights: { regression: ArrayLike<number>; transform: ArrayLike<number> },
    gate: GatingNetwork | null,
  ) {
    this.config = config;
    this.regression = Float32Array.from(weights.regression);
    this.transform = Float32Array.from(weights.transform);
    this.gate = gate;
  }

  /** An untrained gate as a config describes it, or null. */
  static gateOf({ gating, hidden_size: inputs, attributes }: HeadConfig): GatingNetwork | null {
    if (!gating) return null;
    const { hidden_size: hiddenSize, n_hidden: hiddenLayers, temperature } = gating;
    return new GatingNetwork({ inputs, attributes: attributes.length, hiddenSize, hiddenLayers, temperature });
  }

  /** Whether a folder holds one. */
  static async isAt(files: Files, path: string): Promise<boolean> {
    return (await files.read(`${path}/${CONFIG}`)) !== null;
  }

  /** The head in a folder, or null where there is none. Throws `UserError` for files that do not belong together. */
  static async open(files: Files, path: string): Promise<MultiObjectiveHead | null> {
    const bytes = await files.read(`${path}/${CONFIG}`);
    if (!bytes) return null;
    const config = checkConfig(parseJson(bytes, `${path}/${CONFIG}`), `${path}/${CONFIG}`);
    const n = config.attributes.length;
    const tensors = await openTensors(files, path);
    const regression = tensors("regression.weight", [n, config.hidden_size]);
    const transform = tensors("reward_transform", [n, n]);
    const head = new MultiObjectiveHead(config, { regression, transform }, MultiObjectiveHead.gateOf(config));
    loadGate(head.gate, tensors);
    return head;
  }

  get store(): ParameterStore {
    if (!this.gate) throw new Error("a head without a gate has nothing to train");
    return this.gate.store;
  }

  /** The rewards of some features, [rows, attributes]. */
  rewards(last: Features, options: { debiased: boolean }): Float64Array {
    const n = this.config.attributes.length;
    const { width } = last;
    const rows = last.data.length / width;
    const weights = Array.from({ length: n }, (_, k) => this.regression.subarray(k * width, (k + 1) * width));
    const plain = Float64Array.from({ length: rows * n }, (_, at) =>
      project(last, Math.floor(at / n), weights[at % n]),
    );
    return options.debiased ? transformed(plain, this.transform, n) : plain;
  }

  /** The weights of the attributes for some prompts, [rows, attributes]. */
  async gates({ data, width }: Features): Promise<Float64Array> {
    const { gate } = this;
    const rows = data.length / width;
    const n = this.config.attributes.length;
    if (!gate) {
      const fixed = this.config.attribute_weights ?? Array<number>(n).fill(1 / n);
      return Float64Array.from({ length: rows * n }, (_, at) => fixed[at % n]);
    }
    if (rows === 0) return new Float64Array();
    const out = scope(() => noGrad(() => gate.forward(tensor(Float32Array.from(data), [rows, width]))));
    const values = Float64Array.from(await out.read());
    out.free("the gate's reader");
    return values;
  }

  async score({ last, prompt }: SequenceFeatures): Promise<HeadScores> {
    const n = this.config.attributes.length;
    const rewards = this.rewards(last, { debiased: true });
    const gates = await this.gates(prompt);
    const scores = new Float64Array(rewards.length / n);
    for (let at = 0; at < rewards.length; at++) scores[Math.floor(at / n)] += gates[at] * rewards[at];
    return { scores, rewards, gates };
  }

  async files(): Promise<Record<string, FileContent>> {
    const n = this.config.attributes.length;
    const tensors: Record<string, { shape: readonly number[]; data: Float32Array }> = {
      "regression.weight": { shape: [n, this.config.hidden_size], data: this.regression },
      reward_transform: { shape: [n, n], data: this.transform },
    };
    const values = await this.gate?.store.read();
    for (const { name, shape } of this.gate?.store.parameters ?? []) {
      const data = values?.get(name) as Float32Array;
      if (!data.every(Number.isFinite))
        throw new UserError(`the gate's ${name} is not finite any more, so it is not saved`);
      tensors[`gating.${name}`] = { shape, data };
    }
    return { [CONFIG]: `${JSON.stringify(this.config, null, 2)}\n`, [TENSORS]: writeSafetensors(tensors) };
  }

  /** Overwrites the gate with a saved one. */
  async restore(files: Files, folder: string): Promise<void> {
    loadGate(this.gate, await openTensors(files, folder));
  }

  destroy(): void {
    this.gate?.destroy();
  }
}

/** Reads a tensor by name and shape. */
type Tensors = (name: string, shape: readonly number[]) => Float32Array;

async function openTensors(files: Files, folder: string): Promise<Tensors> {
  const file = `${folder}/${TENSORS}`;
  const parsed = parseSafetensors(await readNeeded(files, file, "it belongs to a multi-objective reward model"), file);
  return (name, expected) => {
    const { shape, data } = parsed.get(name);
    if (shape.length === expected.length && shape.every((n, i) => n === expected[i])) return data;
    throw new UserError(`${file}: tensor ${name} has shape [${shape}], but ${CONFIG} asks for [${expected}]`);
  };
}

/** Fills a gate with tensors by name and shape. */
export function loadGate(gate: GatingNetwork | null, tensors: Tensors): void {
  for (const { name, shape, value } of gate?.store.parameters ?? []) value.write(tensors(`gating.${name}`, shape));
}

function checkConfig(value: Record<string, unknown>, file: string): HeadConfig {
  const config = value as unknown as HeadConfig;
  const isCount = (n: unknown) => Number.isSafeInteger(n) && (n as number) > 0;
  const isNumbers = (list: unknown) => Array.isArray(list) && list.every(Number.isFinite);
  const n = Array.isArray(config.attributes) ? config.attributes.length : 0;
  const checks: [keyof HeadConfig, boolean][] = [
    ["base_model_name_or_path", typeof config.base_model_name_or_path === "string"],
    ["attributes", n > 0 && config.attributes.every((name) => typeof name === "string")],
    [
      "verbosity_attribute",
      config.verbosity_attribute === null || config.attributes?.includes(config.verbosity_attribute),
    ],
    ["verbosity_penalties", isNumbers(config.verbosity_penalties) && config.verbosity_penalties.length === n],
    ["prompt_pattern", config.prompt_pattern === null || isNumbers(config.prompt_pattern)],
    ["hidden_size", isCount(config.hidden_size)],
    [
      "gating",
      config.gating === null ||
        (isCount(config.gating?.hidden_size) && isCount(config.gating?.n_hidden) && config.gating.temperature > 0),
    ],
    [
      "attribute_weights",
      config.attribute_weights === null ||
        (isNumbers(config.attribute_weights) && config.attribute_weights.length === n),
    ],
  ];
  const wrong = checks.find(([, ok]) => !ok);
  if (wrong)
    throw new UserError(
      `${file}: "${wrong[0]}" is missing or not what it should be: ${JSON.stringify(value[wrong[0]])}`,
    );
  return config;
}
