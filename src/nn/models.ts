/** A decoder with a head: language models and scorers (reward models, critics). */
import { caps } from "../gpu/device.ts";
import { batchInvariantly } from "../gpu/variants.ts";
import { UserError } from "../runtime/errors.ts";
import { noGrad, scope, type Tensor, tensor } from "../tensor/core.ts";
import { halfOf } from "../tensor/half-copies.ts";
import { cast } from "../tensor/ops/cast.ts";
import { columnMeans } from "../tensor/ops/column-means.ts";
import { type DivergenceOptions, type TokenDivergence, tokenDivergence } from "../tensor/ops/divergence.ts";
import { elements } from "../tensor/ops/elements.ts";
import { softCap } from "../tensor/ops/elementwise.ts";
import { gatherRows } from "../tensor/ops/embedding.ts";
import { type TokenLogProbs, tokenLogProbs } from "../tensor/ops/logprobs.ts";
import { linear } from "../tensor/ops/matmul.ts";
import { reshape } from "../tensor/ops/shape.ts";
import type { Packing } from "../tensor/packing.ts";
import { Parameter, ParameterStore } from "../tensor/params.ts";
import type { WeightFormat } from "../tensor/quantize.ts";
import type { Weight } from "../tensor/quantized.ts";
import { checkKvCache, type KvCacheFormat } from "./cache.ts";
import { type DecoderConfig, widestActivation } from "./config.ts";
import { Decoder } from "./decoder.ts";
import type { HeadKind } from "./huggingface.ts";
import type { Ids } from "./layers.ts";
import { AdaptedDecoder, Adapter, copyValues } from "./lora.ts";
import type { LoraOptions } from "./lora-options.ts";
import { linearModules, savesHead } from "./lora-targets.ts";
import { Module } from "./module.ts";
import { plainScoring, type ScoreHead, type Scoring, scoreIndex } from "./scoring.ts";
import type { TextTokenizer } from "./text-tokenizer.ts";

/** A model's footing: weights of its own, or an adapter on those of another model, which it does not change. */
export type Footing = DecoderConfig | { base: Model; lora: LoraOptions };

const isAdapted = (on: Footing): on is { base: Model; lora: LoraOptions } => "base" in on;

/** Throws `UserError` where the GPU has no f16 to compute in. */
export function needHalf(): void {
  const { f16, name } = caps();
  if (!f16) throw new UserError(`fp16 needs the feature shader-f16, which ${name} does not have: leave fp16 out`);
}

/** A model and the one store that its own parameters live in. */
export abstract class Model extends Module {
  readonly decoder: Decoder | AdaptedDecoder;
  /** What is trained of a model that stands on another one's weights. Not part of the module tree, nor is the base. */
  readonly adapter: Adapter | null = null;
  /** The model's own parameters, packed: all of them, or the adapter's and the heads that it trains. */
  store!: ParameterStore;
  /** Where the model's ids come from, if whoever opened it said so; of a model on a base, at first the base's. */
  tokenizer?: TextTokenizer;
  private destroyBase: (() => void) | null = null;
  private readonly standsOn: () => Model | null;

  constructor(on: Footing, head: HeadKind) {
    super();
    this.standsOn = () => (isAdapted(on) ? on.base : null);
    if (!isAdapted(on)) {
      this.decoder = new Decoder(on);
      for (const { linear, rows } of linearModules(on, head, this.decoder)) {
        linear.weight.maps = [...(linear.weight.maps ?? []), rows];
      }
      return;
    }
    const { decoder, tokenizer } = on.base;
    this.tokenizer = tokenizer;
    if (!(decoder instanceof Decoder)) throw new Error("an adapter needs a base with weights of its own");
    this.adapter = new Adapter(on.base.config, head, decoder, on.lora);
    this.decoder = new AdaptedDecoder(decoder, this.adapter);
  }

  get config(): DecoderConfig {
    return this.decoder.config;
  }

  /** Tokens that fit into one pass: the device must bind a row of the widest activations for each. */
  get tokensPerPass(): number {
    return Math.floor(caps().maxBinding / (Float32Array.BYTES_PER_ELEMENT * widestActivation(this.config)));
  }

  /** The model that an adapter stands on, which is this one with its adapter off; null for a model of its own weights. */
  get baseModel(): Model | null {
    return this.standsOn();
  }

  /** Gradient checkpointing, of an adapter's base as of a whole model: see `Decoder.checkpointing`. Default off. */
  set gradientCheckpointing(on: boolean) {
    const { decoder } = this;
    (decoder instanceof Decoder ? decoder : decoder.base).checkpointing = on;
  }

  /**
   * Half precision, of an adapter's base as of a whole model: see `Decoder.half`. For training with
   * `AdamWOptions.lossScaling`. Default off. Throws `UserError` where the GPU has no f16.
   */
  set half(on: boolean) {
    const { decoder } = this;
    if (on) needHalf();
    (decoder instanceof Decoder ? decoder : decoder.base).half = on;
    if (on) return;
    this.store.freeHalf();
    this.baseModel?.store.freeHalf();
  }

  get half(): boolean {
    const { decoder } = this;
    return (decoder instanceof Decoder ? decoder : decoder.base).half;
  }

  /**
   * How keys and values are kept while tokens are sampled, of an adapter's base as of a whole model. "int8" takes little more
   * than a quarter of float32's memory, and what is sampled, with the log-probabilities that sampling reports, is then of a
   * policy that differs a little from the one that is trained. Counts for generation that begins later. Default "auto": as the
   * model computes. Throws `UserError` where the GPU has no f16 for "float16".
   */
  set kvCache(format: KvCacheFormat) {
    checkKvCache(format);
    const { decoder } = this;
    (decoder instanceof Decoder ? decoder : decoder.base).kvCache = format;
  }

  get kvCache(): KvCacheFormat {
    const { decoder } = this;
    return (decoder instanceof Decoder ? decoder : decoder.base).kvCache;
  }

  /**
   * What a forward pass gives a sequence, its log-probabilities or scores included, is the same bits whatever is computed beside
   * it. On GPUs that is slower for few rows; CPU adapters compute so in any case. Default off.
   */
  set batchInvariant(on: boolean) {
    const { decoder } = this;
    (decoder instanceof Decoder ? decoder : decoder.base).batchInvariant = on;
  }

  get batchInvariant(): boolean {
    const { decoder } = this;
    return (decoder instanceof Decoder ? decoder : decoder.base).batchInvariant;
  }

  /** Enqueues what follows the decoder by the same choice of kernels. */
  protected alike<R>(work: () => R): R {
    return this.batchInvariant ? batchInvariantly(work) : work();
  }

  /** Allocates the parameters; `label` names the model in memory errors ("actor", "reward model"). */
  protected allocate(label: string, format: WeightFormat): void {
    this.store = new ParameterStore([...this.parameters(), ...(this.adapter?.parameters ?? [])], label, format);
  }

  /**
   * The last hidden states, after the final norm, [rows, hidden]: what the head reads. Of a reward model they are the features
   * that its score is linear in: score = `score` times them, plus the bias where there is one.
   * @param rows of the packed batch; default: each sequence's last row, which sequences of no tokens do not have
   */
  hidden(ids: Ids, packing: Packing, rows = lastRows(packing)): Tensor {
    const gpuRows = tensor(rows); // uploads before the work
    return gatherRows(this.decoder.forward(ids, { packing }), gpuRows, rows);
  }

  /**
   * Fills the parameters with fresh random values: the same for the same seed in every runtime. With an adapter, copies
   * of the base's modules start as those are, and the model computes exactly what its base computes.
   */
  initialize(seed: number): this {
    this.store.initialize(seed);
    this.adapter?.copyFromBase();
    return this;
  }

  /** Frees the model's own memory; a base that it stands on stays, unless `withBase` says that nobody else uses it. */
  destroy(): void {
    this.store.destroy();
    this.destroyBase?.();
  }

  /** From now on `destroy` frees this base, too. */
  withBase(base: Model): this {
    this.destroyBase = () => base.destroy();
    return this;
  }
}

/** The last row of each sequence that has one. */
const lastRows = ({ starts, lengths }: Packing): Uint32Array =>
  Uint32Array.from(starts.flatMap((start, i) => (lengths[i] > 0 ? [start + lengths[i] - 1] : [])));

/** A language model: a decoder whose head gives logits of the next token. */
export class CausalLM extends Model {
  /** The LM head [vocab, hidden]; null when it is the embedding matrix, or the base's. */
  readonly head: Parameter | null;
  private readonly baseHead: () => Weight;

  /** @param format how the matrices are stored; in a format other than float32 the model is frozen */
  constructor(on: Footing, label = "model", format: WeightFormat = "float32") {
    super(on, "lm");
    const { vocabSize, hiddenSize, tieEmbeddings } = this.config;
    const own = isAdapted(on) ? savesHead(this.config, on.lora, "head") : !tieEmbeddings;
    this.head = own ? new Parameter([vocabSize, hiddenSize], { normal: 0.02 }) : null;
    if (this.head) this.head.isTable = true;
    if (isAdapted(on)) {
      const { base } = on;
      if (!(base instanceof CausalLM)) throw new Error("a language model's adapter needs a language model as its base");
      this.baseHead = () => base.headWeight;
    } else {
      const { embed } = this.decoder as Decoder;
      this.baseHead = () => embed.weight.stored;
    }
    this.allocate(label, format);
  }

  /** Tied embeddings stay the base's, whatever copy an adapter has of them: so does PEFT. */
  get headWeight(): Weight {
    return this.head ? this.head.stored : this.baseHead();
  }

  override initialize(seed: number): this {
    super.initialize(seed);
    if (this.adapter && this.head) copyValues(this.baseHead(), this.head.value);
    return this;
  }

  /** Next-token logits, [N, vocab], for the given hidden rows. For a few rows: training uses `logProbs`. */
  logits(hidden: Tensor): Tensor {
    const { half } = this;
    const logits = this.alike(() => linear(half ? cast(hidden, "f16") : hidden, this.headAs(half), { type: "f32" }));
    const { logitSoftcap } = this.config;
    return logitSoftcap === null ? logits : softCap(logits, logitSoftcap);
  }

  /**
   * Log-probability and entropy of chosen next tokens.
   * @param rows which rows of the packed batch predict (row r predicts the token after it)
   * @param targets the predicted ids, one per row
   * @param temperature divides the logits
   */
  logProbs(ids: Ids, packing: Packing, rows: Uint32Array, targets: Uint32Array, temperature = 1): TokenLogProbs {
    const [gpuRows, gpuTargets] = [tensor(rows), tensor(targets)]; // uploads together, before the work
    const hidden = gatherRows(this.decoder.forward(ids, { packing }), gpuRows, rows);
    return this.headLogProbs(hidden, gpuTargets, temperature);
  }

  /** Where `logProbs` ends: from hidden states; `targets` u32 [N]. */
  headLogProbs(hidden: Tensor, targets: Tensor, temperature = 1): TokenLogProbs {
    const softcap = this.config.logitSoftcap;
    const type = this.half ? "f16" : "f32";
    return this.alike(() => tokenLogProbs(hidden, this.headAs(this.half), targets, { temperature, softcap, type }));
  }

  /**
   * How far this model's next-token distributions are from a teacher's, over the whole vocabulary, with gradients of this one alone.
   * Ids that only one of the two has a row of its head for do not count.
   * @param rows as of `logProbs`
   */
  divergence(
    teacher: CausalLM,
    ids: Ids,
    packing: Packing,
    rows: Uint32Array,
    options: Pick<DivergenceOptions, "beta" | "temperature"> = {},
  ): TokenDivergence {
    const gpuRows = tensor(rows); // uploads before the work
    const hiddenOf = ({ decoder }: CausalLM) => gatherRows(decoder.forward(ids, { packing }), gpuRows, rows);
    const theirs = noGrad(() => scope(() => hiddenOf(teacher)));
    const hidden = hiddenOf(this);
    const { half } = this;
    const part = (of: CausalLM, hidden: Tensor) => ({ hidden, head: of.headAs(half), softcap: of.config.logitSoftcap });
    const type = half ? "f16" : "f32";
    return this.alike(() => tokenDivergence(part(this, hidden), part(teacher, theirs), { ...options, type }));
  }

  private headAs(half: boolean): Weight {
    return half ? halfOf(this.headWeight) : this.headWeight;
  }

  /**
   * The mean over the vocabulary of each row's logits, [N]: hidden states times the mean of the head's rows. No gradient
   * flows. Null where logits are soft-capped, since the mean of those is not so simple.
   */
  meanLogits(hidden: Tensor): Tensor | null {
    if (this.config.logitSoftcap !== null) return null;
    return noGrad(() => {
      const means = reshape(columnMeans(this.headWeight), [1, this.config.hiddenSize]);
      return reshape(linear(hidden.dtype === "f32" ? hidden : cast(hidden, "f32"), means), [hidden.shape[0]]);
    });
  }
}

/** One score per token: a reward model reads it at the last token, a critic at every token. */
export class ScoreModel extends Model {
  /** [outputs, hidden]. A model with an adapter has its own. */
  readonly score: Parameter;
  /** [outputs], where the head has one. */
  readonly scoreBias: Parameter | null;
  /** What the numbers mean; saved with the model. */
  scoring: Scoring;

  /**
   * @param format as of `CausalLM`
   * @param head default: as the base's, or one output without a bias
   */
  constructor(
    on: Footing,
    label = "scorer",
    format: WeightFormat = "float32",
    head: Partial<ScoreHead> & { scoring?: Scoring } = {},
  ) {
    super(on, "score");
    const base = isAdapted(on) && on.base instanceof ScoreModel ? on.base : null;
    this.scoring = structuredClone(head.scoring ?? base?.scoring ?? plainScoring());
    const { outputs = this.scoring.labels.length, bias = base ? base.scoreBias !== null : false } = head;
    if (outputs !== this.scoring.labels.length) throw new Error(`${outputs} outputs, but other labels`);
    this.score = new Parameter([outputs, this.config.hiddenSize], { normal: 0.02 });
    this.scoreBias = bias ? new Parameter([outputs], { constant: 0 }, false) : null;
    this.allocate(label, format);
  }

  override initialize(seed: number): this {
    super.initialize(seed);
    const base = this.baseModel;
    if (base instanceof ScoreModel && base.score.size === this.score.size) {
      copyValues(base.score.value, this.score.value);
      if (base.scoreBias && this.scoreBias) copyValues(base.scoreBias.value, this.scoreBias.value);
    }
    return this;
  }

  /** Scores of the given rows of a packed batch, [rows]; not normalised. */
  scores(ids: Ids, packing: Packing, rows: Uint32Array): Tensor {
    return this.headScores(this.hidden(ids, packing, rows));
  }

  /** Where `scores` ends: from hidden states, [N, hidden], as `hidden` gives them. */
  headScores(hidden: Tensor): Tensor {
    const all = this.headOutputs(hidden);
    const [rows] = hidden.shape;
    const { labels } = this.scoring;
    if (labels.length === 1) return reshape(all, [rows]);
    const own = scoreIndex(labels);
    return elements(
      all,
      Uint32Array.from({ length: rows }, (_, i) => i * labels.length + own),
    );
  }

  /** All numbers of the head at the given rows of a packed batch, [rows, outputs]. */
  outputs(ids: Ids, packing: Packing, rows: Uint32Array): Tensor {
    return this.headOutputs(this.hidden(ids, packing, rows));
  }

  private headOutputs(hidden: Tensor): Tensor {
    return this.alike(() => linear(hidden, this.score.value, this.scoreBias ? { bias: this.scoreBias.value } : {}));
  }
}
