/** What is asked of a model in training, in its turn: passes, steps, saving and loading. */
import { PARTIAL } from "../../runtime/files.ts";
import { badField } from "../errors.ts";
import type { Fields } from "../fields.ts";
import { expiry, inner, metadata, optionalText, text } from "./ask.ts";
import { type About, isName, type Kind, type Place, pathOf, placeOf } from "./checkpoints.ts";
import type { Context } from "./context.ts";
import { examplesFrom } from "./data.ts";
import type { Outcome } from "./futures.ts";
import { lossConfig, lossOf } from "./losses.ts";
import type { AdamParams, TrainingModel } from "./model.ts";
import type { SamplingSessions } from "./sampling.ts";
import { checkLoadable, refuseToken, type Trained, type TrainedModels } from "./trained.ts";
import { passHead, readPass, writePassOutput } from "./wire.ts";

/** Of a model's folders for sampling clients, the newest so many stay. */
const MOST_PASSING = 8;

export class TrainingRequests {
  private readonly context: Context;
  private readonly trained: TrainedModels;
  private readonly sampling: SamplingSessions;

  constructor(context: Context, trained: TrainedModels, sampling: SamplingSessions) {
    this.context = context;
    this.trained = trained;
    this.sampling = sampling;
  }

  /** Answers `forward_backward`, and `forward`, which is one of its fields. */
  pass(body: Uint8Array): object {
    const { maxRequestTokens, models } = this.context;
    const { modelId, seqId, forwardOnly } = passHead(body);
    const prepare = () => {
      const { lossFn, config: given, data } = readPass(body, maxRequestTokens);
      const loss = lossOf(lossFn);
      const config = lossConfig(loss, lossFn, given);
      const { vocabSize, engine } = models.base;
      const limits = { vocabSize, context: engine.capacity, mostTargets: maxRequestTokens };
      const examples = examplesFrom(data, loss, lossFn, limits);
      return async (model: TrainingModel): Promise<Outcome> => {
        const { logProbs, loss: sum } = await model.pass(examples, loss, config, forwardOnly);
        const widths = examples.map(({ matrix, width }) => (matrix ? width : null));
        return { proto: writePassOutput(logProbs, widths, { "loss:sum": sum }) };
      };
    };
    const kind = { passes: !forwardOnly, bytes: body.length };
    return this.trained.inTurn(this.trained.find(modelId), seqId, prepare, kind);
  }

  /** Answers `optim_step`. */
  step(body: Fields): object {
    return this.ask(body, () => {
      const params = adamParams(body);
      body.refuseUnknown();
      return async (model) => {
        const { gradNorm } = await model.step(params);
        return { json: { metrics: { grad_norm: gradNorm } } };
      };
    });
  }

  /** Answers `save_weights`: all that it takes to go on. */
  saveState(body: Fields): object {
    return this.ask(body, (trained, seq) => {
      const overwrite = body.boolean("overwrite");
      const save = this.saving(body, trained, "weights", seq, overwrite);
      body.refuseUnknown();
      return async (model) => {
        const path = await save(() => model.stateFiles(this.context.source.files));
        return { json: { type: "save_weights", path } };
      };
    });
  }

  /** Answers `save_weights_external`: a folder that other programs read. */
  saveExternal(body: Fields): object {
    return this.ask(body, (trained, seq) => {
      body.unsupported({ age_encryption_recipients: () => false });
      const save = this.saving(body, trained, "external_weights", seq, false);
      body.refuseUnknown();
      return async (model) => {
        const path = await save(() => model.weightFiles());
        return { json: { type: "save_weights_external", path } };
      };
    });
  }

  /** Answers `save_weights_for_sampler`: under a name, or for one sampling client, which gets its id. */
  saveForSampler(body: Fields): object {
    return this.ask(body, (trained, seq) => {
      const client = body.integer("sampling_session_seq_id", 0);
      const following = body.raw("kind") ?? "snapshot";
      if (following !== "snapshot" && following !== "inflight")
        throw badField("kind", "kind must be snapshot or inflight");
      const named = body.raw("path") !== undefined;
      if (named === (client !== undefined))
        throw badField("path", "either path or sampling_session_seq_id must be there");
      if (named && following !== "snapshot") throw badField("kind", "weights of a name are a snapshot");
      const passing = client === undefined ? null : `client-${String(seq).padStart(9, "0")}`;
      const save = this.saving(body, trained, "sampler_weights", seq, false, passing);
      body.refuseUnknown();
      return async (model) => {
        const path = await save(() => model.weightFiles());
        if (client === undefined) return { json: { type: "save_weights_for_sampler", path } };
        await this.dropPassing(trained);
        const place = placeOf(path);
        const target = following === "inflight" ? Object.assign(trained.following, { place }) : { place };
        const id = this.sampling.add(trained.session, target);
        return { json: { type: "save_weights_for_sampler", path, sampling_session_id: id } };
      };
    });
  }

  /** Answers `load_weights` of a model that is there. */
  load(body: Fields): object {
    const { checkpoints, source, models } = this.context;
    return this.ask(body, () => {
      refuseToken(body);
      const place = placeOf(text(body, "path"));
      const optimizer = body.boolean("optimizer");
      body.refuseUnknown();
      return async (model) => {
        await checkLoadable(checkpoints, place, optimizer, models.base.name);
        await model.load(source.files, checkpoints.folderOf(place), optimizer);
        return { json: { type: "load_weights", path: pathOf(place) } };
      };
    });
  }

  private ask(
    body: Fields,
    prepare: (trained: Trained, seq: number) => (model: TrainingModel) => Promise<Outcome>,
  ): object {
    const trained = this.trained.find(text(body, "model_id"));
    const seq = body.integer("seq_id", 1);
    if (seq === undefined) throw badField("seq_id", "seq_id is missing");
    return this.trained.inTurn(trained, seq, () => prepare(trained, seq));
  }

  /** Reads where something is to be saved, and gives what saves it there and says by which path it is known. */
  private saving(
    body: Fields,
    trained: Trained,
    kind: Kind,
    seq: number,
    overwrite: boolean,
    passing: string | null = null,
  ) {
    const { checkpoints, models } = this.context;
    const name = passing ?? optionalText(body, "path") ?? `request-${seq}`;
    if (!isName(name)) {
      throw badField(
        "path",
        `${JSON.stringify(name.slice(0, 200))} is no name to save by: letters, digits, dots, dashes and underscores, at most 128, the first a letter or digit, without "${PARTIAL}"`,
      );
    }
    const place: Place = { run: trained.id, kind, name };
    const about: Omit<About, "bytes" | "created"> = {
      base: models.base.name,
      rank: trained.rank,
      trainAttn: trained.trainAttn,
      trainMlp: trained.trainMlp,
      expires: expiry(body),
      userMetadata: metadata(body),
      runMetadata: trained.userMetadata,
      passing: passing !== null,
    };
    return async (files: () => ReturnType<TrainingModel["weightFiles"]>): Promise<string> => {
      await checkpoints.checkRoom(place, overwrite, about.passing);
      await checkpoints.write(place, await files(), { ...about, created: Date.now() });
      return pathOf(place);
    };
  }

  /** Of what a model's sampling clients had, removes what is old. */
  private async dropPassing({ id, following }: Trained): Promise<void> {
    const { checkpoints } = this.context;
    const all = (await checkpoints.list(id)).filter(
      ({ about, place }) => about.passing && place.name !== following.place?.name,
    );
    for (const { place } of all.slice(0, -MOST_PASSING)) await checkpoints.remove(place);
  }
}

/** The numbers of a step, as PyTorch's AdamW takes them. */
function adamParams(body: Fields): AdamParams {
  const given = ["adam_params", "optim_params", "optimizer_params"].filter((name) => body.raw(name) !== undefined);
  if (given.length !== 1) throw badField("adam_params", "adam_params must be there, once");
  const f = inner(body, given[0]) as Fields;
  const type = f.raw("type") ?? "adamw";
  if (type !== "adamw" && type !== "adam")
    throw badField(given[0], `the optimizer ${JSON.stringify(type)} is not known here; adamw is`);
  const params = {
    learningRate: f.number("learning_rate", 0, 1e3) ?? 1e-4,
    beta1: f.number("beta1", 0, 0.999999) ?? 0.9,
    beta2: f.number("beta2", 0, 0.999999) ?? 0.95,
    eps: f.number("eps", 0, 1) ?? 1e-12,
    weightDecay: f.number("weight_decay", 0, 1e3) ?? 0,
    gradClipNorm: Math.max(0, f.number("grad_clip_norm", -1e9, 1e9) ?? 0),
  };
  f.refuseUnknown();
  return params;
}
