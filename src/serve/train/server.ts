/**
 * Training over HTTP, by the protocol of the `tinker` package: clients make models, pass data over them, take optimizer steps,
 * sample and save. Every request is answered at once with an id, and its result fetched by that id.
 */
import { isUserError, UserError } from "../../runtime/errors.ts";
import { ApiError } from "../errors.ts";
import { Fields } from "../fields.ts";
import type { Admission } from "../limits.ts";
import { Line } from "../line.ts";
import type { ServedModels } from "../models.ts";
import type { Reply } from "../reply.ts";
import { fieldsOf, inner, metadata, optionalText, text } from "./ask.ts";
import { Checkpoints } from "./checkpoints.ts";
import type { Context, TrainingSource } from "./context.ts";
import { Futures, type Outcome } from "./futures.ts";
import { Listing } from "./listing.ts";
import { TrainingRequests } from "./requests.ts";
import { SamplingSessions } from "./sampling.ts";
import { Sessions } from "./sessions.ts";
import { TrainedModels } from "./trained.ts";

/** How long a client that waits for a result is kept waiting before it must ask again; its own patience is 45 s. */
const POLL_MS = 25_000;
/** Requests being worked on at once, of all clients together. */
const MOST_PENDING = 2048;
/** Results that wait to be fetched, in largest bodies. */
const RESULTS = 64;

export const TRAINING_PATHS = "/api/v1/";

/** What is done for a request to one address. */
export interface TrainingRoute {
  method: "GET" | "POST" | "DELETE";
  /** What its body is. */
  reads: "nothing" | "json" | "protobuf";
  answer(body: unknown, exchange: { readonly signal: AbortSignal }): Promise<Reply> | Reply;
}

/** What a training server needs to know of the server that it is part of. */
export interface Surrounding {
  maxBodyBytes: number;
  maxRequestTokens: number;
  maxRequests: number;
  admission: Admission;
  log: (line: string) => void;
}

export class TrainingServer {
  private readonly context: Context;
  private readonly trained: TrainedModels;
  private readonly sampling: SamplingSessions;
  private readonly requests: TrainingRequests;
  private readonly listing: Listing;
  private readonly around: Surrounding;
  private readonly endings = new Set<Promise<void>>();
  private readonly release: () => Promise<void>;

  /** Takes the folder that clients save in, and clears it of what a server had there that was killed. The caller closes it. */
  static async open(models: ServedModels, source: TrainingSource, around: Surrounding): Promise<TrainingServer> {
    const server = new TrainingServer(models, source, around, await claimed(source));
    server.keep(server.context.checkpoints.removePassing());
    await Promise.all(server.endings);
    return server;
  }

  private constructor(models: ServedModels, source: TrainingSource, around: Surrounding, release: () => Promise<void>) {
    this.around = around;
    this.release = release;
    const { maxBodyBytes, maxRequestTokens, admission, log } = around;
    this.context = {
      source,
      models,
      sessions: new Sessions(source.sessionMs, (id) => this.ended(id)),
      futures: new Futures({ mostPending: MOST_PENDING, mostBytes: RESULTS * maxBodyBytes }),
      checkpoints: new Checkpoints(source.files, source.folder, source.maxCheckpoints),
      admission,
      line: new Line(),
      maxBodyBytes,
      maxRequestTokens,
      log,
    };
    this.trained = new TrainedModels(this.context);
    this.sampling = new SamplingSessions(this.context);
    this.requests = new TrainingRequests(this.context, this.trained, this.sampling);
    this.listing = new Listing(this.context, this.trained);
  }

  /** What is done for requests to an address below `TRAINING_PATHS`; null where there is nothing. */
  route(path: string, query: URLSearchParams): TrainingRoute | null {
    const name = path.slice(TRAINING_PATHS.length);
    if (Object.hasOwn(this.posts, name)) {
      const answer = this.posts[name];
      return { method: "POST", reads: "json", answer: async (body, { signal }) => answer(fieldsOf(body), signal) };
    }
    if (name === "forward_backward") {
      const answer = (body: unknown) => ({ json: this.requests.pass(body as Uint8Array) });
      return { method: "POST", reads: "protobuf", answer };
    }
    return this.lookup(name.split("/").map(decoded), query);
  }

  /** Ends all sessions and stops all work, and gives the folder back. */
  async close(): Promise<void> {
    const { sessions, futures } = this.context;
    sessions.close();
    for (const { id } of this.trained.list) this.keep(this.trained.unload(id));
    await futures.close();
    await this.sampling.close();
    await Promise.all(this.endings);
    await this.release();
  }

  private readonly posts: Readonly<Record<string, (f: Fields, signal: AbortSignal) => Promise<Reply> | Reply>> = {
    "client/config": () => ({ json: this.clientConfig() }),
    "client/dynamic_config": () => ({ json: { sample_cancel_enabled: true } }),
    create_session: (f) => ({ json: this.createSession(f) }),
    session_heartbeat: (f) => {
      this.context.sessions.seen(text(f, "session_id"));
      return { json: { type: "session_heartbeat" } };
    },
    telemetry: () => ({ json: { status: "accepted" } }),
    create_model: (f) => ({ json: this.trained.create(f) }),
    get_info: (f) => ({ json: this.info(text(f, "model_id")) }),
    unload_model: (f) => {
      const { id } = this.trained.find(text(f, "model_id"));
      this.keep(this.trained.unload(id));
      return { json: { request_id: this.done({ type: "unload_model", model_id: id }), model_id: id } };
    },
    optim_step: (f) => ({ json: this.requests.step(f) }),
    save_weights: (f) => ({ json: this.requests.saveState(f) }),
    save_weights_for_sampler: (f) => ({ json: this.requests.saveForSampler(f) }),
    save_weights_external: (f) => ({ json: this.requests.saveExternal(f) }),
    load_weights: async (f) => ({
      json: f.raw("model_id") === undefined ? await this.trained.createFrom(f) : this.requests.load(f),
    }),
    weights_info: async (f) => ({ json: await this.listing.weights(text(f, "tinker_path")) }),
    create_sampling_session: async (f) => ({ json: await this.sampling.create(f) }),
    join_sampling_session: (f) => ({ json: this.sampling.join(f) }),
    asample: (f) => ({ json: this.sampling.sample(f) }),
    retrieve_future: (f, signal) => this.retrieve(f, signal),
    cancel_future: (f) => {
      this.context.futures.cancel(text(f, "request_id"));
      return { json: {} };
    },
  };

  private lookup([what, id, more, ...rest]: string[], query: URLSearchParams): TrainingRoute | null {
    const get = (answer: () => Promise<object> | object): TrainingRoute => ({
      method: "GET",
      reads: "nothing",
      answer: async () => ({ json: await answer() }),
    });
    const ends = more === undefined;
    if (what === "healthz" && id === undefined) return get(() => ({ status: "ok" }));
    if (what === "get_server_capabilities" && id === undefined) return get(() => this.capabilities());
    if (what === "checkpoints" && id === undefined) return get(() => this.listing.checkpoints(null, query));
    if (what === "training_runs" && id === undefined) return get(() => this.listing.runs(query));
    if (id === undefined) return null;
    if (what === "training_runs" && ends) return get(() => this.listing.run(id));
    if (what === "samplers" && ends) return get(() => this.sampling.describe(id));
    if (what === "sessions" && ends) return get(() => this.session(id));
    if (what === "sessions" && more === "finish" && rest.length === 0) {
      const finish = async (body: unknown) => {
        const f = new Fields(body);
        inner(f, "reason");
        f.raw("detail");
        f.refuseUnknown();
        this.context.sessions.end(id);
        return { json: {} };
      };
      return { method: "POST", reads: "json", answer: finish };
    }
    if (what !== "training_runs" || more !== "checkpoints") return null;
    if (rest.length === 0) return get(() => this.listing.checkpoints(id, query));
    const [kind, name, ...others] = rest.flatMap((part) => part.split("/"));
    if (name === undefined || others.length > 0) return null;
    return {
      method: "DELETE",
      reads: "nothing",
      answer: async () => ({ json: await this.listing.remove(id, kind, name) }),
    };
  }

  /** What clients are to keep to. */
  private clientConfig(): object {
    const { maxBodyBytes, maxRequests } = this.around;
    return {
      pjwt_auth_enabled: false,
      // Each sample that is waited for is a request that is being answered.
      sample_max_concurrent_requests: Math.max(1, Math.floor(maxRequests / 4)),
      fwdbwd_max_chunk_bytes_count: Math.floor(maxBodyBytes / 2),
      proto_compress_fwdbwd: false,
      sample_use_retrieve_futures: false,
      sample_join_sampling_session: true,
      custom_loss_server_side: false,
    };
  }

  private createSession(f: Fields): object {
    const displayName = optionalText(f, "display_name");
    const session = this.context.sessions.begin(displayName, metadata(f));
    const note = "Adapters of this server leave the unembedding as it is, whatever train_unembed says.";
    return { type: "create_session", session_id: session.id, info_message: note };
  }

  private session(id: string): object {
    const { displayName, userMetadata } = this.context.sessions.seen(id);
    const runs = this.trained.list.filter((one) => one.session === id).map((one) => one.id);
    return {
      training_run_ids: runs,
      sampler_ids: this.sampling.of(id),
      user_metadata: userMetadata,
      display_name: displayName,
    };
  }

  private capabilities(): object {
    const { name, engine } = this.context.models.base;
    const model = { model_name: name, max_context_length: engine.capacity, trainable: true, sampleable: true };
    return { supported_models: [model] };
  }

  private info(id: string): object {
    const { rank } = this.trained.find(id);
    const { source, models } = this.context;
    return {
      type: "get_info",
      model_id: id,
      model_data: { arch: source.family, model_name: models.base.name, tokenizer_id: source.tokenizer },
      is_lora: true,
      lora_rank: rank,
      model_name: models.base.name,
    };
  }

  private async retrieve(f: Fields, signal: AbortSignal): Promise<Reply> {
    const id = text(f, "request_id");
    f.boolean("allow_metadata_only"); // results are small enough to be sent as they are
    f.refuseUnknown();
    const outcome = await this.context.futures.result(id, POLL_MS, signal);
    if (outcome === null) return { json: { type: "try_again", request_id: id, queue_state: "active" }, status: 408 };
    if (outcome.error !== undefined) return { json: { error: outcome.error, category: outcome.category } };
    return "proto" in outcome ? { bytes: outcome.proto, type: "application/x-protobuf" } : { json: outcome.json };
  }

  /** The id of a result that is there already. */
  private done(json: object): string {
    const id = crypto.randomUUID();
    this.context.futures.begin(id, async (): Promise<Outcome> => ({ json }));
    return id;
  }

  /** What a session had goes with it. */
  private ended(id: string): void {
    this.sampling.end(id);
    for (const one of this.trained.list) {
      if (one.session !== id) continue;
      this.keep(this.trained.unload(one.id).then(() => this.context.checkpoints.removePassing(one.id)));
    }
  }

  private keep(work: Promise<void>): void {
    const done = work
      .catch((error: unknown) => this.context.log(`cleaning up failed: ${String(error)}`))
      .finally(() => this.endings.delete(done));
    this.endings.add(done);
  }
}

/** Two servers would delete each other's weights. */
async function claimed({ files, folder }: TrainingSource): Promise<() => Promise<void>> {
  try {
    return (await files.claim?.(folder)) ?? (async () => {});
  } catch (error) {
    throw isUserError(error) ? new UserError(`--train_folder ${error.message}`) : error;
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new ApiError(404, "Unknown request URL: it is not encoded as addresses are.", { code: "unknown_url" });
  }
}
