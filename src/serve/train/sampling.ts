/** Sampling clients: which weights each samples from, and the samples that are drawn for it. */
import { ApiError, badField } from "../errors.ts";
import type { Fields } from "../fields.ts";
import { checkBase, optionalText, text } from "./ask.ts";
import { type Place, pathOf, placeOf } from "./checkpoints.ts";
import type { Context } from "./context.ts";
import { costOf, drawSamples, readSample } from "./sample.ts";
import { Samplers } from "./samplers.ts";

/** The weights that a client samples from; null is the model that is served. */
interface Target {
  place: Place | null;
}

interface SamplingSession {
  readonly session: string;
  readonly target: Target;
  /** Copies of the client that asked for numbers of their own. */
  clients: number;
}

/** Clients number requests of each copy from the next multiple of this. */
const COPY = 1_000_000_000;
/** More than this many of one server are not kept. */
const MOST_SESSIONS = 4096;

export class SamplingSessions {
  private readonly context: Context;
  private readonly samplers: Samplers;
  /** The oldest first. */
  private readonly all = new Map<string, SamplingSession>();

  constructor(context: Context) {
    this.context = context;
    this.samplers = new Samplers(context);
  }

  /** A new client of some weights. */
  add(session: string, target: Target): string {
    const id = `${session}:sample:${crypto.randomUUID()}`;
    const [oldest] = this.all.keys();
    if (this.all.size >= MOST_SESSIONS) this.all.delete(oldest);
    this.all.set(id, { session, target, clients: 0 });
    return id;
  }

  /** Answers `create_sampling_session`. */
  async create(body: Fields): Promise<object> {
    const { sessions, checkpoints, models } = this.context;
    const session = sessions.seen(text(body, "session_id"));
    body.integer("sampling_session_seq_id", 0);
    const target = this.targetOf(body);
    body.refuseUnknown();
    if (target.place) checkBase((await checkpoints.about(target.place)).base, models.base.name);
    return { type: "create_sampling_session", sampling_session_id: this.add(session.id, target) };
  }

  /** Answers `join_sampling_session`. */
  join(body: Fields): object {
    const found = this.find(text(body, "sampling_session_id"));
    body.refuseUnknown();
    found.clients += 1;
    return { type: "join_sampling_session", client_counter: found.clients };
  }

  /** Says what a client samples from. */
  describe(id: string): object {
    const { place } = this.find(id).target;
    const { name } = this.context.models.base;
    return { sampler_id: id, base_model: name, ...(place && { model_path: pathOf(place) }) };
  }

  /** Answers `asample`: the samples are fetched by the id that it gives. */
  sample(body: Fields): object {
    const { sessions, futures, models, admission, checkpoints } = this.context;
    const of = optionalText(body, "sampling_session_id");
    const seq = body.integer("seq_id", 0, COPY * COPY);
    if ((of === null) !== (seq === undefined)) throw badField("seq_id", "sampling_session_id and seq_id go together");
    const found = of === null ? null : this.find(of);
    if (found) sessions.seen(found.session);
    const target = found ? found.target : this.targetOf(body);
    body.raw("base_model");
    body.raw("model_path");
    const asked = readSample(body, models.base.vocabSize);
    body.refuseUnknown();
    const requestId = `${of ?? `sample:${crypto.randomUUID()}`}:${seq ?? 0}`;
    const answer = {
      request_id: requestId,
      sample_sequence_ids: Array.from({ length: asked.samples }, (_, i) => `${requestId}:${i}`),
    };
    if (futures.has(requestId)) return answer;
    futures.checkRoom();
    const { tokens, bytes } = costOf(asked, models.base.engine.capacity);
    const end = admission.take(tokens, bytes, `a prompt with num_samples = ${asked.samples}`);
    futures.begin(requestId, async (signal) => {
      try {
        const { place } = target;
        const weights = place && {
          folder: checkpoints.folderOf(place),
          created: (await checkpoints.about(place)).created,
        };
        const proto = await this.samplers.use(weights, signal, (model) => drawSamples(model, asked, signal));
        return { proto };
      } finally {
        end();
      }
    });
    return answer;
  }

  /** Removes the clients of a session that has ended. */
  end(session: string): void {
    for (const [id, one] of this.all) if (one.session === session) this.all.delete(id);
  }

  /** Ids of a session's clients. */
  of(session: string): string[] {
    return [...this.all].flatMap(([id, one]) => (one.session === session ? [id] : []));
  }

  close(): Promise<void> {
    return this.samplers.close();
  }

  private find(id: string): SamplingSession {
    const found = this.all.get(id);
    if (found) return found;
    throw new ApiError(404, `There is no sampling client ${id.slice(0, 200)} any more: make a new one.`, {
      param: "sampling_session_id",
    });
  }

  private targetOf(body: Fields): Target {
    const path = optionalText(body, "model_path");
    const base = optionalText(body, "base_model");
    checkBase(base, this.context.models.base.name);
    if (path === null && base === null) throw badField("model_path", "either model_path or base_model must be there");
    return { place: path === null ? null : placeOf(path) };
  }
}
