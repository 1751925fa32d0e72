/** Opens the models of a run. Those with the same base share one copy of its weights, and know it only by their adapters. */
import { join, resolve } from "node:path";
import type { Tokenizer } from "../../data/tokenizer.ts";
import { isGguf } from "../../io/model-files.ts";
import { CausalLM, type Model, ScoreModel } from "../../nn/models.ts";
import { type AdapterFolder, openAdapter, readAdapterFolder } from "../../nn/peft.ts";
import { loadCausalLM, loadScoreModel, NOT_TRAINED } from "../../nn/pretrained.ts";
import type { Scoring } from "../../nn/scoring.ts";
import { MultiObjectiveHead } from "../../rlhf/multi-objective/head.ts";
import { multiObjectiveReward } from "../../rlhf/multi-objective/model.ts";
import { type ForeignRewardOptions, foreignReward, sameTokenizer } from "../../rlhf/reward/foreign.ts";
import { modelReward, type RewardFunction } from "../../rlhf/rollout.ts";
import { UserError } from "../../runtime/errors.ts";
import type { Files } from "../../runtime/files.ts";
import type { WeightFormat } from "../../tensor/quantize.ts";
import type { Values } from "../option.ts";
import type { AdapterOptions } from "../options/shared.ts";
import { hubNameAt, labelAt, locate } from "./hub.ts";
import { loraOptions } from "./lora-options.ts";
import { basePathOf, openTokenizer, takeTemplate, WORLD, worldGold } from "./models.ts";
import { isUrl, type RewardServerChoice, serverReward } from "./reward-server.ts";
import { refuseTraining, type WeightChoice, weightFormat } from "./weight-options.ts";

/** The adapter and precision options of a training verb; evaluation has fewer. */
export type PeftChoice = Partial<Values<AdapterOptions>> &
  WeightChoice &
  RewardServerChoice & {
    seed?: number;
    gradient_checkpointing?: boolean;
    tokenizer_name_or_path?: string | null;
    chat_template_path?: string | null;
  };

/** A format that one model is to have; auto is the one for all. */
type AskedFormat = WeightFormat | "auto";

export class ModelOpener {
  /** Everything that was opened, to be destroyed in the end. */
  readonly opened: { destroy(): void }[] = [];
  private readonly files: Files;
  readonly choice: PeftChoice;
  private readonly bases = new Map<string, CausalLM | ScoreModel>();

  constructor(files: Files, choice: PeftChoice = {}) {
    this.files = files;
    this.choice = choice;
  }

  /** The tokenizer of a model, or of an adapter's base where its own folder has none. */
  async tokenizer(path: string): Promise<Tokenizer> {
    const adapter = await readAdapterFolder(this.files, path);
    const own = !adapter || (await this.files.read(join(path, "tokenizer.json"))) !== null;
    const tokenizer = await openTokenizer(this.files, own ? path : this.basePath(adapter));
    await takeTemplate(this.files, tokenizer, this.choice.chat_template_path);
    return tokenizer;
  }

  /** The tokenizer of a model that is trained: the one that `tokenizer_name_or_path` names, else its own. */
  async trainingTokenizer(path: string): Promise<Tokenizer> {
    const { tokenizer_name_or_path: named, chat_template_path: template } = this.choice;
    return named ? openTokenizer(this.files, named, template) : this.tokenizer(path);
  }

  /** The model's own tokenizer, or null where none lies beside the model: then it is the policy's. */
  async tokenizerBeside(path: string): Promise<Tokenizer | null> {
    const beside =
      isGguf(path) ||
      (await this.files.read(join(path, "tokenizer.json"))) !== null ||
      (await readAdapterFolder(this.files, path)) !== null;
    return beside ? this.tokenizer(path) : null;
  }

  /** A language model to train: whole, or by an adapter where the options or the folder say so. */
  async policy(path: string, label = labelAt(path)): Promise<CausalLM> {
    const adapter = await readAdapterFolder(this.files, path);
    if (adapter) {
      if (this.choice.use_peft) throw twoAdapters(path);
      return this.keep(await openAdapter(this.files, adapter, await this.base(adapter, "lm"), "lm", { label }));
    }
    if (!this.choice.use_peft) {
      refuseTraining(this.choice, path);
      return this.keep(await loadCausalLM(this.files, path, label));
    }
    const base = await this.baseAt(path, "lm");
    const model = new CausalLM({ base, lora: loraOptions(this.choice) }, label).initialize(this.choice.seed ?? 0);
    return this.keep(named(model, path));
  }

  /**
   * A scorer to train, likewise. A language model gives one with a fresh score head.
   * @param head what a fresh head is to have
   */
  async scorer(
    path: string,
    label = "reward model",
    head: { scoring?: Scoring; bias?: boolean } = {},
  ): Promise<ScoreModel> {
    const { seed = 0 } = this.choice;
    const adapter = await readAdapterFolder(this.files, path);
    if (adapter) {
      return this.keep(
        await openAdapter(this.files, adapter, await this.base(adapter, "score"), "score", { label, seed }),
      );
    }
    if (!this.choice.use_peft) {
      refuseTraining(this.choice, path);
      return this.keep(await loadScoreModel(this.files, path, label, seed, "float32", head));
    }
    const base = await this.baseAt(path, "score");
    return this.keep(
      named(new ScoreModel({ base, lora: loraOptions(this.choice) }, label, "float32", head).initialize(seed), path),
    );
  }

  /** A language model that nobody trains: the base of an adapter that is trained, or a copy of its own. */
  async frozenPolicy(path: string, label = "reference", format = this.choice.ref_model_dtype): Promise<CausalLM> {
    const adapter = await readAdapterFolder(this.files, path);
    if (!adapter) return (await this.baseAt(path, "lm", label, format)) as CausalLM;
    return this.keep(await openAdapter(this.files, adapter, await this.base(adapter, "lm", format), "lm", { label }));
  }

  /** A scorer that nobody trains. A language model is none: its score head would be a random one. */
  async frozenScorer(path: string, label = "reward model"): Promise<ScoreModel> {
    const adapter = await readAdapterFolder(this.files, path);
    if (adapter) {
      const { taskType, modulesToSave } = adapter;
      if (taskType === "CAUSAL_LM" && !modulesToSave.includes("score")) throw new UserError(`${path} ${NOT_TRAINED}`);
      return this.scorerOf(adapter, label);
    }
    const base = await this.baseAt(path, "score", label, this.choice.reward_model_dtype, true);
    if (base instanceof ScoreModel) return base;
    throw new UserError(`${path} is the base of the policy here and has no trained score head: name a reward model`);
  }

  /** A model that nobody trains, for its hidden states: it may have either head. */
  async backbone(path: string, label = "frozen model"): Promise<Model> {
    const adapter = await readAdapterFolder(this.files, path);
    return adapter ? this.scorerOf(adapter, label) : this.baseAt(path, "score", label);
  }

  private async scorerOf(adapter: AdapterFolder, label: string): Promise<ScoreModel> {
    const base = await this.base(adapter, "score", this.choice.reward_model_dtype);
    return this.keep(await openAdapter(this.files, adapter, base, "score", { label }));
  }

  /** A multi-objective reward model, or null where the folder holds something else. */
  async multiObjective(path: string): Promise<{ model: Model; head: MultiObjectiveHead } | null> {
    const head = await MultiObjectiveHead.open(this.files, path);
    if (!head) return null;
    this.opened.push(head);
    return { model: await this.backbone(locate(head.config.base_model_name_or_path)), head };
  }

  private base(adapter: AdapterFolder, kind: "lm" | "score", format?: AskedFormat): Promise<Model> {
    return this.baseAt(this.basePath(adapter), kind, "base model", format);
  }

  private basePath(adapter: AdapterFolder): string {
    return basePathOf(adapter, this.choice.base_model_name_or_path);
  }

  /**
   * The base at a path, opened once. A language model serves scorers, too, but not the other way round.
   * @param trained refuses a scorer without a score head
   */
  private async baseAt(
    path: string,
    kind: "lm" | "score",
    label = "base model",
    asked: AskedFormat = "auto",
    trained = false,
  ): Promise<CausalLM | ScoreModel> {
    const place = resolve(path);
    const known = this.bases.get(`lm ${place}`) ?? this.bases.get(`${kind} ${place}`);
    if (known) {
      if (asked === "auto" || asked === known.store.format) return known;
      throw new UserError(
        `${path} serves several models here and is kept as ${known.store.format}, so it cannot be ${asked} for one of ` +
          "them: set --dtype for all",
      );
    }
    const format = asked === "auto" ? weightFormat(this.choice) : asked;
    const model = this.keep<CausalLM | ScoreModel>(
      kind === "lm"
        ? await loadCausalLM(this.files, path, label, format)
        : await loadScoreModel(this.files, path, label, 0, format, { trained }),
    );
    this.bases.set(`${kind} ${place}`, model);
    return model;
  }

  private keep<M extends Model>(model: M): M {
    this.opened.push(model);
    model.gradientCheckpointing = this.choice.gradient_checkpointing ?? false;
    return model;
  }
}

/**
 * The reward function at a path: a model's, a server's, or the true one.
 * @param policyTokenizer where given, a model with another one reads responses by its own
 */
export async function openReward(
  opener: ModelOpener,
  path: string,
  policyTokenizer: Tokenizer | null = null,
  options: ForeignRewardOptions = {},
): Promise<RewardFunction> {
  if (path !== WORLD && !isUrl(path)) {
    const own = policyTokenizer && (await opener.tokenizerBeside(path));
    const several = await opener.multiObjective(path);
    if (several && own && !sameTokenizer(own, policyTokenizer)) {
      throw new UserError(
        `${path} has another tokenizer than the policy: a multi-objective reward model must share it`,
      );
    }
    if (several && options.normalize) throw withoutStatistics(path);
    if (several) return multiObjectiveReward(several.model, several.head);
    const model = await opener.frozenScorer(path);
    if (!own || sameTokenizer(own, policyTokenizer)) return modelReward(model, options);
    return foreignReward(model, own, policyTokenizer, options);
  }
  if ((opener.choice.reward_model_dtype ?? "auto") !== "auto") {
    throw new UserError(`reward_model_dtype does not apply: ${path} has no weights here`);
  }
  if (options.normalize) throw withoutStatistics(path);
  return path === WORLD ? async (responses) => responses.map(worldGold) : serverReward(path, opener.choice);
}

const withoutStatistics = (path: string): UserError =>
  new UserError(
    `${path} has no statistics to normalise its rewards by: normalise by those of the run, with --reward_normalizer running`,
  );

/** An adapter names its base as others find it: by its name on the hub (a chosen revision of it has none), or by its path. */
function named<M extends Model>(model: M, path: string): M {
  if (model.adapter) model.adapter.basePath = hubNameAt(path) ?? path;
  return model;
}

const twoAdapters = (path: string): UserError =>
  new UserError(
    `${path} is an adapter already: leave out use_peft to train it further, or put it into its base first with: webrlhf merge`,
  );
