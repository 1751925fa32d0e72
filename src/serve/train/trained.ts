/** The models in training, by their ids: how they come and go, and the order of what is asked of them. */
import { deviceFailure } from "../../open/surviving.ts";
import { ApiError, badField, tooMany } from "../errors.ts";
import type { Fields } from "../fields.ts";
import { checkBase, checkOptimizer, inner, metadata, optionalText, text } from "./ask.ts";
import { type About, type Checkpoints, type Place, placeOf } from "./checkpoints.ts";
import type { Context } from "./context.ts";
import type { Outcome } from "./futures.ts";
import { TrainingModel } from "./model.ts";
import { Turns } from "./turns.ts";

/** The update is multiplied by this over the rank, as clients of this protocol expect. */
const ALPHA = 32;

/** All bodies of passes that wait for their turn may hold this many of the largest ones. */
const BODIES_AT_ONCE = 16;

/** What an adapter adapts. */
export interface Shape {
  rank: number;
  trainAttn: boolean;
  trainMlp: boolean;
}

/** A model in training. */
export interface Trained extends Shape {
  readonly id: string;
  readonly session: string;
  readonly turns: Turns;
  readonly userMetadata: Record<string, string> | null;
  /** Null until it is made, and when it is gone. */
  model: TrainingModel | null;
  /** Of the device that it is on. */
  generation: number;
  /** When it was asked for something, in milliseconds since 1970. */
  askedAt: number;
  /** What its clients sample from that follow its weights. */
  following: { place: Place | null };
}

export class TrainedModels {
  private readonly context: Context;
  private readonly all = new Map<string, Trained>();
  /** Of passes that wait for their turn. */
  private heldBytes = 0;

  constructor(context: Context) {
    this.context = context;
  }

  get list(): Trained[] {
    return [...this.all.values()];
  }

  /** A model by its id. Throws for one that is not there. */
  find(id: string): Trained {
    const found = this.all.get(id);
    if (!found)
      throw new ApiError(
        404,
        `There is no model ${id.slice(0, 200)} in training: it was unloaded, or its session has ended.`,
        { param: "model_id" },
      );
    found.askedAt = Date.now();
    return found;
  }

  /** Answers `create_model`: an adapter that changes nothing yet. */
  create(body: Fields): object {
    const { source, models } = this.context;
    const session = this.context.sessions.seen(text(body, "session_id"));
    const seq = needed(body, "model_seq_id");
    checkBase(text(body, "base_model"), models.base.name);
    checkOptimizer(body);
    const lora = inner(body, "lora_config");
    const rank = lora?.integer("rank", 1, source.maxLoraRank);
    if (!lora || rank === undefined)
      throw badField("lora_config", "lora_config with a rank is missing: models are trained by adapters here");
    const seed = lora.integer("seed", 0, 0xffffffff) ?? crypto.getRandomValues(new Uint32Array(1))[0];
    const shape = { rank, trainAttn: flag(lora, "train_attn"), trainMlp: flag(lora, "train_mlp") };
    // The model's head stays as it is whatever is asked for, as the session's message and `weights_info` say.
    flag(lora, "train_unembed");
    if (!shape.trainAttn && !shape.trainMlp) {
      throw badField(
        "lora_config",
        "train_attn and train_mlp are both false: the unembedding alone cannot be trained here",
      );
    }
    lora.refuseUnknown();
    const userMetadata = metadata(body);
    body.refuseUnknown();
    const id = `${session.id}:train:${seq}`;
    const requestId = `${id}:create`;
    if (this.context.futures.has(requestId)) return { request_id: requestId, model_id: id };
    const trained = this.enter(id, session.id, shape, userMetadata);
    this.begin(trained, requestId, async () => {
      this.adapt(trained, seed);
      return { json: { type: "create_model", model_id: id } };
    });
    return { request_id: requestId, model_id: id };
  }

  /** Answers `load_weights` of a client that has no model yet. */
  async createFrom(body: Fields): Promise<object> {
    const { sessions, futures, checkpoints, models, source } = this.context;
    const session = sessions.seen(text(body, "session_id"));
    const seq = needed(body, "model_seq_id");
    checkBase(optionalText(body, "base_model"), models.base.name);
    checkOptimizer(body);
    refuseToken(body);
    const place = placeOf(text(body, "path"));
    const optimizer = body.boolean("optimizer");
    const userMetadata = metadata(body);
    body.refuseUnknown();
    const about = await checkLoadable(checkpoints, place, optimizer, models.base.name);
    const id = `${session.id}:train:${seq}`;
    const requestId = `${id}:create`;
    if (futures.has(requestId)) return { request_id: requestId, model_id: id };
    const trained = this.enter(id, session.id, about, userMetadata ?? about.runMetadata);
    this.begin(trained, requestId, async () => {
      const model = this.adapt(trained, 0);
      await model.load(source.files, checkpoints.folderOf(place), optimizer);
      return { json: { type: "load_weights", path: text(body, "path"), model_id: id } };
    });
    return { request_id: requestId, model_id: id };
  }

  /**
   * Takes in a request that has its turn among the model's others. What is wrong with it is its result, and not refused at once:
   * the client counts it, and the next one has its turn after it.
   * @param prepare reads the request, and gives what is to be done. It is called when it is the request's turn: what is read may be far
   * larger than what was sent
   * @param passes it is to add gradients, without which the next step must not be taken
   * @param bytes what is held of it until then
   */
  inTurn(
    trained: Trained,
    seq: number,
    prepare: () => (model: TrainingModel) => Promise<Outcome>,
    { passes = false, bytes = 0 }: { passes?: boolean; bytes?: number } = {},
  ): object {
    const { futures, sessions, maxBodyBytes } = this.context;
    sessions.seen(trained.session);
    const requestId = `${trained.id}:${seq}`;
    const answer = { request_id: requestId, model_id: trained.id };
    if (futures.has(requestId)) return answer;
    trained.turns.check(seq);
    futures.checkRoom();
    if (bytes > 0 && this.heldBytes + bytes > maxBodyBytes * BODIES_AT_ONCE && !trained.turns.isNext(seq)) {
      throw tooMany("The server holds as much data as it can. Please try again later.");
    }
    const turn = async () => {
      const model = this.ready(trained);
      let work: ReturnType<typeof prepare>;
      try {
        work = prepare();
      } catch (error) {
        if (passes) model.breakStep(`a forward_backward before it was refused: ${(error as Error).message}`);
        throw error;
      }
      return work(model);
    };
    this.heldBytes += bytes;
    futures.begin(requestId, async () => {
      try {
        return await trained.turns.take(seq, () => this.guarded(trained, turn));
      } finally {
        this.heldBytes -= bytes;
      }
    });
    return answer;
  }

  /** Frees a model when what is asked of it is done. */
  async unload(id: string): Promise<void> {
    const trained = this.all.get(id);
    if (!trained) return;
    this.all.delete(id);
    trained.turns.close();
    await this.context.line.run(async () => {
      try {
        trained.model?.destroy();
      } catch {} // its memory went with its device
      trained.model = null;
    });
  }

  private enter(id: string, session: string, shape: Shape, userMetadata: Record<string, string> | null): Trained {
    if (this.all.has(id)) throw new ApiError(400, `There is a model ${id} already.`, { param: "model_seq_id" });
    this.context.futures.checkRoom();
    this.makeRoom();
    const trained: Trained = {
      id,
      session,
      rank: shape.rank,
      trainAttn: shape.trainAttn,
      trainMlp: shape.trainMlp,
      userMetadata,
      model: null,
      generation: -1,
      askedAt: Date.now(),
      following: { place: null },
      turns: new Turns(1, this.context.line, (why) => trained.model?.breakStep(why)),
    };
    this.all.set(id, trained);
    return trained;
  }

  private makeRoom(): void {
    const { source, sessions } = this.context;
    if (this.all.size < source.maxTrainModels) return;
    const lapsed = this.list.filter(({ session }) => sessions.isLapsed(session)).sort((a, b) => a.askedAt - b.askedAt);
    if (lapsed.length === 0) {
      throw tooMany(
        `${source.maxTrainModels} models are in training already (--max_train_models): close their clients, or wait until they end.`,
        10,
      );
    }
    void this.unload(lapsed[0].id);
  }

  private begin(trained: Trained, requestId: string, work: () => Promise<Outcome>): void {
    const { futures, line } = this.context;
    futures.begin(requestId, async () => {
      try {
        return await line.run(() => this.guarded(trained, work));
      } catch (error) {
        await this.unload(trained.id);
        throw error;
      }
    });
  }

  private adapt(trained: Trained, seed: number): TrainingModel {
    const { source, models } = this.context;
    const { rank, trainAttn, trainMlp, id } = trained;
    const targets = source.modules().filter((name) => (/attn|attention/.test(name) ? trainAttn : trainMlp));
    const lm = source.adapt({ rank, alpha: ALPHA, targets }, seed, `model ${id.slice(-12)} in training`);
    trained.model = new TrainingModel(lm);
    trained.generation = models.generation;
    return trained.model;
  }

  private ready({ model, generation }: Trained): TrainingModel {
    if (model && generation === this.context.models.generation) return model;
    throw new ApiError(
      410,
      "this model is gone: it was unloaded, or the server's device failed; go on from the last saved state",
    );
  }

  /** Brings the server onto a device that works where this one fails. */
  private async guarded(trained: Trained, work: () => Promise<Outcome>): Promise<Outcome> {
    const { models, log } = this.context;
    const { generation } = models;
    try {
      return await work();
    } catch (error) {
      if (deviceFailure(error)) {
        trained.generation = -1;
        await models.revive(error, generation, log).catch(() => {}); // it is this error that counts
      }
      throw error;
    }
  }
}

/** What a checkpoint says, where a model can go on from it. */
export async function checkLoadable(
  checkpoints: Checkpoints,
  place: Place,
  optimizer: boolean,
  base: string,
): Promise<About> {
  const about = await checkpoints.about(place);
  if (about.base !== base)
    throw new ApiError(
      400,
      `These weights are of ${JSON.stringify(about.base)}, and this server trains ${JSON.stringify(base)}.`,
      { param: "path" },
    );
  if (optimizer && place.kind !== "weights")
    throw new ApiError(
      400,
      "These weights were saved to be sampled from, without an optimizer: load a saved state, or the weights alone.",
      { param: "path" },
    );
  return about;
}

/** There are no accounts here. */
export function refuseToken(f: Fields): void {
  f.unsupported({ weights_access_token: () => false });
}

function needed(f: Fields, name: string): number {
  const value = f.integer(name, 0, 999_999_999);
  if (value === undefined) throw badField(name, `${name} is missing`);
  return value;
}

/** A switch that is on where nothing is said. */
const flag = (f: Fields, name: string): boolean => f.raw(name) === undefined || f.boolean(name);
