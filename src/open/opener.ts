/** Opens the models of a run. Those with the same base share one copy of its weights, and know it only by their adapters. */
import { WORLD } from "../data/made.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { isGguf } from "../io/model-files.ts";
import type { LoraOptions } from "../nn/lora-options.ts";
import { CausalLM, type Model, ScoreModel } from "../nn/models.ts";
import { type AdapterFolder, openAdapter, readAdapterFolder } from "../nn/peft.ts";
import { type LoadOptions, loadCausalLM, loadScoreModel, NOT_TRAINED } from "../nn/pretrained.ts";
import type { Scoring } from "../nn/scoring.ts";
import { promptPattern } from "../rlhf/multi-objective/features.ts";
import { MultiObjectiveHead } from "../rlhf/multi-objective/head.ts";
import { isPublishedHead, openPublishedHead } from "../rlhf/multi-objective/published.ts";
import { isPairModel, readPairWriter } from "../rlhf/pairwise/folder.ts";
import type { PairWriter } from "../rlhf/pairwise/template.ts";
import { isUserError, UserError } from "../runtime/errors.ts";
import { absolute, join } from "../runtime/paths.ts";
import { spelled } from "../settings/index.ts";
import { type HubChoice, type Located, labelOf, locateModel, savedName } from "./hub.ts";
import { type AskedFormat, type PrecisionOptions, refuseTraining, weightFormat } from "./precision.ts";
import { filesOf, type Surroundings } from "./surroundings.ts";
import { openTokenizer, readTokenizer, type TokenizerOptions, takeTemplate } from "./tokenizer.ts";

/** Low-rank adapters, in the names of the program's options. */
export interface PeftOptions {
  /** Train a low-rank adapter instead of the whole model. Default false. */
  usePeft?: boolean | undefined;
  /** Default 16. */
  loraR?: number | undefined;
  /** The update is multiplied by alpha / rank. Default 32. */
  loraAlpha?: number | undefined;
  /** Part of the adapter's input that drops out in training. Default 0. */
  loraDropout?: number | undefined;
  /** Ends of names of linear layers, or ["all-linear"]. Default: as PEFT, by family. */
  loraTargetModules?: readonly string[] | null | undefined;
  /** Modules to train whole besides ("lm_head", "embed_tokens"). Default none. */
  loraModulesToSave?: readonly string[] | null | undefined;
  /** Multiply by alpha / sqrt(rank) instead. Default false. */
  useRslora?: boolean | undefined;
  /** Train the lengths of the adapted weights' rows besides. Default false. */
  useDora?: boolean | undefined;
}

/** How the models of a run are opened; names are those of the program's options. */
export interface ModelOptions extends PeftOptions, PrecisionOptions, HubChoice, TokenizerOptions, Surroundings {
  /** Base of an adapter's folder. Default: what its adapter_config.json names. */
  baseModelNameOrPath?: string | null | undefined;
  /** The tokenizer of a model that is trained. Default: the model's own. */
  tokenizerNameOrPath?: string | null | undefined;
  /** Of fresh heads and adapters. Default 0. */
  seed?: number | undefined;
  /** Compute each block again for its gradient: a third slower, far less memory. Default false. */
  gradientCheckpointing?: boolean | undefined;
}

/** The adapter that options ask for. */
export function loraOptions(o: PeftOptions): LoraOptions {
  const targets = o.loraTargetModules;
  return {
    rank: o.loraR ?? 16,
    alpha: o.loraAlpha ?? 32,
    dropout: o.loraDropout ?? 0,
    rsLora: o.useRslora ?? false,
    dora: o.useDora ?? false,
    ...(targets && { targets: targets.length === 1 && targets[0] === "all-linear" ? "all-linear" : targets }),
    modulesToSave: o.loraModulesToSave ?? [],
  };
}

/** An adapter's folder and where it was found. */
type FoundAdapter = AdapterFolder & { at: Located };

/** Opens models and tokenizers by name for one run, and remembers what it opened. */
export class ModelOpener {
  /** Everything that was opened, to be destroyed in the end. */
  readonly opened: { destroy(): void }[] = [];
  readonly options: ModelOptions;
  private readonly bases = new Map<string, CausalLM | ScoreModel>();
  private readonly found = new Map<string, Promise<Located>>();
  private usesBase = false;

  constructor(options: ModelOptions = {}) {
    this.options = options;
  }

  /** Where the model of a name is; what is named on the hub is loaded. */
  locate(name: string): Promise<Located> {
    const known = this.found.get(name);
    if (known) return known;
    const finding = locateModel(name, "model", this.options);
    this.found.set(name, finding);
    return finding;
  }

  /** The tokenizer of a model, or of an adapter's base where its own folder has none. */
  async tokenizer(name: string): Promise<Tokenizer> {
    if (name === WORLD) return openTokenizer(name, this.options);
    const at = await this.locate(name);
    const adapter = await this.adapterAt(at);
    const own = !adapter || (await at.files.read(join(at.path, "tokenizer.json"))) !== null;
    const read = async ({ path, files }: Located) => readTokenizer(files, path);
    const tokenizer = own
      ? await read(at)
      : await this.ofBase(adapter, async () => read(await this.locate(this.basePath(adapter))));
    await takeTemplate(await filesOf(this.options), tokenizer, this.options.chatTemplatePath);
    return tokenizer;
  }

  /** The tokenizer of a model that is trained: the one that `tokenizerNameOrPath` names, else its own. */
  async trainingTokenizer(name: string): Promise<Tokenizer> {
    const { tokenizerNameOrPath: named } = this.options;
    return named ? openTokenizer(named, this.options) : this.tokenizer(name);
  }

  /** The model's own tokenizer, or null where none lies beside the model: then it is the policy's. */
  async tokenizerBeside(name: string): Promise<Tokenizer | null> {
    const at = await this.locate(name);
    const beside =
      isGguf(at.path) ||
      (await at.files.read(join(at.path, "tokenizer.json"))) !== null ||
      (await this.adapterAt(at)) !== null;
    return beside ? this.tokenizer(name) : null;
  }

  /** A language model to train: whole, or by an adapter where the options or the folder say so. */
  async policy(name: string, label?: string): Promise<CausalLM> {
    const at = await this.locate(name);
    const called = label ?? labelOf(at);
    const adapter = await this.adapterAt(at);
    if (adapter) {
      if (this.options.usePeft) throw twoAdapters(name);
      return this.keep(await openAdapter(at.files, adapter, await this.base(adapter, "lm"), "lm", { label: called }));
    }
    if (!this.options.usePeft) {
      refuseTraining(this.options, name);
      return this.keep(await loadCausalLM(at.files, at.path, called, "float32", this.loading(called)));
    }
    const base = await this.baseAt(at, "lm");
    const model = new CausalLM({ base, lora: loraOptions(this.options) }, called).initialize(this.options.seed ?? 0);
    return this.keep(named(model, at));
  }

  /**
   * A language model to sample from. An adapter's folder gives its base with the adapter merged into it, which costs nothing
   * per token; in formats other than float32 the adapter stays beside its base, because its update would be rounded away.
   */
  async sampler(name: string): Promise<CausalLM> {
    const at = await this.locate(name);
    const adapter = await this.adapterAt(at);
    const start = adapter ? await this.locate(this.basePath(adapter)) : at;
    const base = await loadCausalLM(
      start.files,
      start.path,
      labelOf(at),
      weightFormat(this.options),
      this.loading(labelOf(at)),
    );
    if (!adapter) return this.keep(base);
    try {
      const model = await openAdapter(at.files, adapter, base, "lm", { label: labelOf(at) });
      if (base.store.format === "float32") model.adapter?.merge();
      return this.keep(model.withBase(base));
    } catch (error) {
      base.destroy();
      throw error;
    }
  }

  /**
   * A scorer to train: whole, or by an adapter as a policy. A language model gives one with a fresh score head.
   * @param head what a fresh head is to have
   */
  async scorer(
    name: string,
    label = "reward model",
    head: { scoring?: Scoring; bias?: boolean } = {},
  ): Promise<ScoreModel> {
    const { seed = 0 } = this.options;
    const at = await this.locate(name);
    const adapter = await this.adapterAt(at);
    if (adapter) {
      const base = await this.base(adapter, "score");
      return this.keep(await openAdapter(at.files, adapter, base, "score", { label, seed }));
    }
    if (!this.options.usePeft) {
      refuseTraining(this.options, name);
      return this.keep(await loadScoreModel(at.files, at.path, label, seed, "float32", head, this.loading(label)));
    }
    const base = await this.baseAt(at, "score");
    const model = new ScoreModel({ base, lora: loraOptions(this.options) }, label, "float32", head).initialize(seed);
    return this.keep(named(model, at));
  }

  /** A language model that nobody trains: the base of an adapter that is trained, or a copy of its own. */
  async frozenPolicy(name: string, label = "reference", format = this.options.refModelDtype): Promise<CausalLM> {
    const at = await this.locate(name);
    const adapter = await this.adapterAt(at);
    if (!adapter) return (await this.baseAt(at, "lm", label, format)) as CausalLM;
    return this.keep(await openAdapter(at.files, adapter, await this.base(adapter, "lm", format), "lm", { label }));
  }

  /** A scorer that nobody trains. A language model is none: its score head would be a random one. */
  async frozenScorer(name: string, label = "reward model"): Promise<ScoreModel> {
    const at = await this.locate(name);
    const adapter = await this.adapterAt(at);
    if (adapter) {
      const { taskType, modulesToSave } = adapter;
      if (taskType === "CAUSAL_LM" && !modulesToSave.includes("score")) throw new UserError(`${name} ${NOT_TRAINED}`);
      return this.scorerOf(adapter, label);
    }
    const base = await this.baseAt(at, "score", label, this.options.rewardModelDtype, true);
    if (base instanceof ScoreModel) return base;
    throw new UserError(
      `${name} is opened as a language model here, as the policy or the base of one, so it cannot be the reward model, too: ` +
        "name a language model for the one and a reward model for the other",
    );
  }

  /** A model that nobody trains, for its hidden states: it may have either head. */
  async backbone(name: string, label = "frozen model"): Promise<Model> {
    const at = await this.locate(name);
    const adapter = await this.adapterAt(at);
    return adapter ? this.scorerOf(adapter, label) : this.baseAt(at, "score", label);
  }

  /** A multi-objective reward model, or null where the folder holds something else. */
  async multiObjective(name: string): Promise<{ model: Model; head: MultiObjectiveHead } | null> {
    const { files, path } = await this.locate(name);
    const head = (await MultiObjectiveHead.open(files, path)) ?? (await this.publishedHead(name));
    if (!head) return null;
    this.opened.push(head);
    return { model: await this.backbone(head.config.base_model_name_or_path), head };
  }

  /** Whether a name means a multi-objective reward model. */
  async isMultiObjective(name: string): Promise<boolean> {
    const { files, path } = await this.locate(name);
    return (await MultiObjectiveHead.isAt(files, path)) || isPublishedHead(files, path);
  }

  /** The head of a model in ArmoRM's own layout, or null where the folder holds something else. */
  private async publishedHead(name: string): Promise<MultiObjectiveHead | null> {
    const { files, path } = await this.locate(name);
    if (!(await isPublishedHead(files, path))) return null;
    const pattern = promptPattern(await this.tokenizer(name));
    if (pattern) return openPublishedHead(files, path, name, pattern);
    throw new UserError(`${name}: its tokenizer has none of the marks by which such a model finds the end of a prompt`);
  }

  /** How a pair-preference model is asked, or null where the folder holds something else. */
  async pairWriter(name: string): Promise<PairWriter | null> {
    const { files, path } = await this.locate(name);
    return readPairWriter(files, path, () => this.tokenizer(name), name);
  }

  /** Throws `UserError` for a model that judges answers and is no policy, though a language model is a part of it. */
  async refuseJudge(name: string): Promise<void> {
    const { files, path } = await this.locate(name);
    const kind = (await isPairModel(files, path, name))
      ? "a pair-preference model"
      : (await this.isMultiObjective(name))
        ? "a multi-objective reward model"
        : null;
    if (kind === null) return;
    throw new UserError(`${name} is ${kind}, which judges answers and writes none: name a language model`);
  }

  /** Throws `UserError` where an adapter is asked for on a model that is one already. */
  async refuseSecondAdapter(name: string): Promise<void> {
    if (this.options.usePeft && (await this.adapterAt(await this.locate(name)))) throw twoAdapters(name);
  }

  /** An adapter's base: where the options say, or where its folder says. */
  basePath(adapter: Pick<AdapterFolder, "basePath" | "folder">): string {
    const path = this.options.baseModelNameOrPath ?? adapter.basePath;
    this.usesBase = true;
    if (path) return path;
    throw new UserError(
      `${adapter.folder}/adapter_config.json does not say which model the adapter belongs to: pass ` +
        spelled(this.options, "baseModelNameOrPath"),
    );
  }

  /** Throws `UserError` where a base is named and nothing that was opened is an adapter: call it when all is opened. */
  refuseUnusedBase(): void {
    if (!this.options.baseModelNameOrPath || this.usesBase) return;
    throw new UserError(
      `${spelled(this.options, "baseModelNameOrPath")} names the base of an adapter, and none of the models here is an ` +
        `adapter's folder: ${[...this.found.keys()].join(", ") || "none is read"}`,
    );
  }

  /** Frees everything that was opened. */
  destroy(): void {
    for (const one of this.opened.splice(0)) one.destroy();
  }

  private async adapterAt(at: Located): Promise<FoundAdapter | null> {
    const adapter = await readAdapterFolder(at.files, at.path);
    return adapter && { ...adapter, at };
  }

  private async scorerOf(adapter: FoundAdapter, label: string): Promise<ScoreModel> {
    const base = await this.base(adapter, "score", this.options.rewardModelDtype);
    return this.keep(await openAdapter(adapter.at.files, adapter, base, "score", { label }));
  }

  private async base(adapter: AdapterFolder, kind: "lm" | "score", format?: AskedFormat): Promise<Model> {
    return this.ofBase(adapter, async () =>
      this.baseAt(await this.locate(this.basePath(adapter)), kind, "base model", format),
    );
  }

  /** Opens something of an adapter's base. Where that fails, the error says whose base it is and how to name another. */
  private async ofBase<R>(adapter: Pick<AdapterFolder, "folder" | "basePath">, open: () => Promise<R>): Promise<R> {
    try {
      return await open();
    } catch (error) {
      if (!isUserError(error) || this.options.baseModelNameOrPath || !adapter.basePath) throw error;
      throw new UserError(
        `${error.message}. It is the base that ${adapter.folder}/adapter_config.json names; say where it is with ` +
          spelled(this.options, "baseModelNameOrPath"),
        { cause: error },
      );
    }
  }

  /**
   * The base at a place, opened once. A language model serves scorers, too, but not the other way round.
   * @param trained refuses a scorer without a score head
   */
  private async baseAt(
    at: Located,
    kind: "lm" | "score",
    label = "base model",
    asked: AskedFormat = "auto",
    trained = false,
  ): Promise<CausalLM | ScoreModel> {
    const place = absolute(at.path);
    const known = this.bases.get(`lm ${place}`) ?? this.bases.get(`${kind} ${place}`);
    if (known) {
      if (asked === "auto" || asked === known.store.format) return known;
      throw new UserError(
        `${at.name} serves several models here and is kept as ${known.store.format}, so it cannot be ${asked} for one of ` +
          `them: set ${spelled(this.options, "dtype")} for all`,
      );
    }
    const format = asked === "auto" ? weightFormat(this.options) : asked;
    const model = this.keep<CausalLM | ScoreModel>(
      kind === "lm"
        ? await loadCausalLM(at.files, at.path, label, format, this.loading(label))
        : await loadScoreModel(at.files, at.path, label, 0, format, { trained }, this.loading(label)),
    );
    this.bases.set(`${kind} ${place}`, model);
    return model;
  }

  private loading(model: string): LoadOptions {
    const { loading, signal } = this.options;
    return {
      ...(loading && { progress: (done: number, total: number) => loading(model, done, total) }),
      ...(signal && { signal }),
    };
  }

  private keep<M extends Model>(model: M): M {
    this.opened.push(model);
    model.gradientCheckpointing = this.options.gradientCheckpointing ?? false;
    if (this.options.fp16) model.half = true;
    if (this.options.kvCacheDtype) model.kvCache = this.options.kvCacheDtype;
    return model;
  }
}

/** An adapter names its base as others find it: by its name on the hub (a chosen revision of it has none), or by its path. */
function named<M extends Model>(model: M, base: Located): M {
  if (model.adapter) model.adapter.basePath = savedName(base);
  return model;
}

const twoAdapters = (path: string): UserError =>
  new UserError(
    `${path} is an adapter already: leave out use_peft to train it further, or put it into its base first with: webrlhf merge`,
  );
