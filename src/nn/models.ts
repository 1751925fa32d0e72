/** A decoder with a head: language models and scorers (reward models, critics). */
import { gatherRows } from "../tensor/ops/embedding.ts";
import { tokenLogProbs } from "../tensor/ops/logprobs.ts";
import { linear } from "../tensor/ops/matmul.ts";
import { reshape } from "../tensor/ops/shape.ts";
import type { Packing } from "../tensor/packing.ts";
import { Parameter, ParameterStore } from "../tensor/params.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";
import type { DecoderConfig } from "./config.ts";
import { Decoder } from "./decoder.ts";
import type { Ids } from "./layers.ts";
import { Module } from "./module.ts";

/** A model and the one store its parameters live in. */
export abstract class Model extends Module {
  readonly decoder: Decoder;
  /** All parameters, packed. Not part of the module tree. */
  store!: ParameterStore;

  constructor(config: DecoderConfig) {
    super();
    this.decoder = new Decoder(config);
  }

  get config(): DecoderConfig {
    return this.decoder.config;
  }

  /** Allocates the parameters; `label` names the model in memory errors ("actor", "reward model"). */
  protected allocate(label: string): void {
    this.store = new ParameterStore(this.parameters(), label);
  }

  /** Fills the parameters with fresh random values: the same for the same seed in every runtime. */
  initialize(seed: number): this {
    this.store.initialize(seed);
    return this;
  }

  destroy(): void {
    this.store.destroy();
  }
}

export class CausalLM extends Model {
  /** The LM head [vocab, hidden]; null when it is the embedding matrix. */
  readonly head: Parameter | null;

  constructor(config: DecoderConfig, label = "model") {
    super(config);
    this.head = config.tieEmbeddings ? null : new Parameter([config.vocabSize, config.hiddenSize], { normal: 0.02 });
    this.allocate(label);
  }

  get headWeight(): Tensor {
    return (this.head ?? this.decoder.embed.weight).value;
  }

  /** Next-token logits, [N, vocab], for the given hidden rows. For a few rows: training uses `logProbs`. */
  logits(hidden: Tensor): Tensor {
    return linear(hidden, this.headWeight);
  }

  /**
   * Log-probability and entropy of chosen next tokens.
   * @param rows which rows of the packed batch predict (row r predicts the token after it)
   * @param targets the predicted ids, one per row
   * @param temperature divides the logits
   */
  logProbs(
    ids: Ids,
    packing: Packing,
    rows: Uint32Array,
    targets: Uint32Array,
    temperature = 1,
  ): { logProbs: Tensor; entropy: Tensor } {
    const [gpuRows, gpuTargets] = [tensor(rows), tensor(targets)]; // uploads together, before the work
    const hidden = gatherRows(this.decoder.forward(ids, { packing }), gpuRows, rows);
    return tokenLogProbs(hidden, this.headWeight, gpuTargets, { temperature });
  }
}

/** One score per token: a reward model reads it at the last token, a critic at every token. */
export class ScoreModel extends Model {
  /** [1, hidden], no bias. */
  readonly score: Parameter;

  constructor(config: DecoderConfig, label = "scorer") {
    super(config);
    this.score = new Parameter([1, config.hiddenSize], { normal: 0.02 });
    this.allocate(label);
  }

  /** Scores of the given rows of a packed batch, [rows]. */
  scores(ids: Ids, packing: Packing, rows: Uint32Array): Tensor {
    const gpuRows = tensor(rows);
    const hidden = gatherRows(this.decoder.forward(ids, { packing }), gpuRows, rows);
    return reshape(linear(hidden, this.score.value), [rows.length]);
  }
}
