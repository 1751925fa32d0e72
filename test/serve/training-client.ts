/** A client of a training server that speaks its protocol by hand, and a server over a tiny model to speak to. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { diskFiles } from "webrlhf";
import { CausalLM, modelFiles } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { proto, protoFields } from "../../src/io/protobuf.ts";
import { type OpenTextModel, openTextModel } from "../../src/serve/open.ts";
import type { ServerOptions } from "../../src/serve/options.ts";
import { type RunningServer, startServer } from "../../src/serve/server.ts";
import type { TrainingSource } from "../../src/serve/train/context.ts";
import { type TrainingLimits, trainingDefaults } from "../../src/serve/train/limits.ts";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";

export interface TinyTraining {
  server: RunningServer;
  opened: OpenTextModel;
  base: CausalLM;
  training: TrainingSource;
  /** Where clients save. */
  folder: string;
  stop(): Promise<void>;
}

/**
 * A server over a tiny random model that clients may train.
 * @param change changes the model before it is saved and served
 */
export async function tinyTraining(
  limits: Partial<TrainingLimits> = {},
  options: Partial<ServerOptions> = {},
  change: (base: CausalLM) => void = () => {},
): Promise<TinyTraining> {
  process.setMaxListeners(100);
  await gpuReady();
  const dir = await mkdtemp(join(tmpdir(), "webrlhf-training-"));
  const files = await diskFiles();
  const base = new CausalLM(tinyConfig()).initialize(1);
  change(base);
  await files.writeFolder(join(dir, "base"), { ...(await modelFiles(base)), ...tokenizerFiles(tokenizer) });
  const opened = await openTextModel(join(dir, "base"), {}, () => ({ name: "tiny", slots: 4 }));
  const folder = join(dir, "saved");
  const { adapt, modules, family, openAdapter: open } = opened;
  const training = { ...trainingDefaults, ...limits, files, folder, tokenizer: null, adapt, modules, family, open };
  const server = await startServer(opened.model, { port: 0, training, revive: opened.revive, ...options });
  const stop = async () => {
    await server.close(0);
    await opened.close();
    base.destroy();
    await rm(dir, { recursive: true });
  };
  return { server, opened, base, training, folder, stop };
}

/** A sequence with what its loss needs: numbers, or ids for target_tokens. */
export interface Datum {
  ids: readonly number[];
  inputs: Record<string, readonly number[]>;
}

/** A prompt and its continuation as clients send them: each token predicts the next one. */
export function datum(ids: readonly number[], inputs: Record<string, readonly number[]>): Datum {
  return { ids: ids.slice(0, -1), inputs: { target_tokens: ids.slice(1), ...inputs } };
}

export interface Pass {
  loss_fn: string;
  data: readonly Datum[];
  config?: Record<string, number>;
  forwardOnly?: boolean;
}

const bytesOf = (array: Int32Array | Float32Array | BigInt64Array) =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

function tensorBytes(name: string, values: readonly number[]): Uint8Array {
  const ids = name === "target_tokens";
  const dense = ids ? BigInt64Array.from(values, BigInt) : Float32Array.from(values);
  return proto.whole(proto.bytes(1, bytesOf(dense)), proto.int(3, ids ? 2 : 1), proto.ints(4, [values.length]));
}

/** The body of a `forward_backward`. */
export function passBody(modelId: string, seq: number, { loss_fn, data, config = {}, forwardOnly }: Pass): Uint8Array {
  return proto.whole(
    proto.text(1, modelId),
    proto.int(2, seq),
    ...data.map(({ ids, inputs }) =>
      proto.message(
        3,
        proto.message(1, proto.message(1, proto.bytes(1, bytesOf(Int32Array.from(ids))))),
        ...Object.entries(inputs).map(([name, values]) =>
          proto.message(2, proto.text(1, name), proto.bytes(2, tensorBytes(name, values))),
        ),
      ),
    ),
    proto.text(4, loss_fn),
    proto.int(6, forwardOnly ? 1 : 0),
    ...Object.entries(config).map(([name, value]) =>
      proto.message(7, proto.text(1, name), proto.message(2, proto.double(1, value))),
    ),
  );
}

const parts = (bytes: Uint8Array) => [...protoFields(bytes)] as { field: number; value: Uint8Array }[];
const part = (bytes: Uint8Array, field: number) => parts(bytes).find((one) => one.field === field)?.value;
const floats = (bytes: Uint8Array | undefined) => (bytes ? [...new Float32Array(new Uint8Array(bytes).buffer)] : null);
const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);

/** What came of a pass. */
export interface Passed {
  logProbs: number[][];
  loss: number;
}

function readPassed(bytes: Uint8Array): Passed {
  const logProbs = parts(bytes)
    .filter(({ field }) => field === 2)
    .flatMap(({ value }) => {
      const batched = part(part(value, 2) as Uint8Array, 2) as Uint8Array;
      const all = floats(part(batched, 1)) as number[];
      const ends = [...new BigInt64Array(new Uint8Array(part(batched, 2) as Uint8Array).buffer)].map(
        (n) => Number(n) / 4,
      );
      return ends.slice(1).map((end, i) => all.slice(ends[i], end));
    });
  const metrics = parts(bytes).filter(({ field }) => field === 3);
  const loss = metrics.find(({ value }) => text(part(value, 1)) === "loss:sum")?.value as Uint8Array;
  const double = part(loss, 2);
  return { logProbs, loss: double ? new DataView(double.buffer, double.byteOffset).getFloat64(0, true) : 0 };
}

/** What was drawn. */
export interface Drawn {
  sequences: { ids: number[]; logProbs: number[] | null; stopped: boolean }[];
  promptLogProbs: number[] | null;
}

function readDrawn(bytes: Uint8Array): Drawn {
  const sequences = parts(bytes)
    .filter(({ field }) => field === 1)
    .map(({ value }) => ({
      ids: [...new Int32Array(new Uint8Array(part(value, 2) as Uint8Array).buffer)],
      logProbs: floats(part(value, 3)),
      stopped: ((part(value, 1) ?? 0) as unknown as number) === 0,
    }));
  return { sequences, promptLogProbs: floats(part(bytes, 2)) };
}

/** An answer with its status. */
export interface Answered {
  status: number;
  json: Record<string, unknown>;
  bytes: Uint8Array;
}

/** What failed, in the server's words. */
export class Refused extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class TrainingClient {
  readonly url: string;
  readonly headers: Record<string, string>;
  session = "";
  private seq = new Map<string, number>();
  private models = 0;
  private samplers = 0;
  private samples = 0;

  constructor(url: string, headers: Record<string, string> = {}) {
    this.url = `${url}/api/v1/`;
    this.headers = headers;
  }

  async send(method: string, path: string, body?: object | Uint8Array): Promise<Answered> {
    const type = body instanceof Uint8Array ? "application/x-protobuf" : "application/json";
    const response = await fetch(this.url + path, {
      method,
      headers: { ...this.headers, ...(body && { "Content-Type": type }) },
      ...(body && { body: body instanceof Uint8Array ? (body as Uint8Array<ArrayBuffer>) : JSON.stringify(body) }),
    });
    const bytes = new Uint8Array(await response.arrayBuffer());
    const isJson = response.headers.get("content-type")?.startsWith("application/json");
    return { status: response.status, json: isJson ? JSON.parse(text(bytes)) : {}, bytes };
  }

  /** Posts, and throws what was refused. */
  async post(path: string, body: object | Uint8Array): Promise<Record<string, unknown>> {
    const { status, json } = await this.send("POST", path, body);
    if (status === 200) return json;
    throw new Refused(status, (json.error as { message: string }).message);
  }

  async open(): Promise<this> {
    const request = { tags: [], user_metadata: {}, sdk_version: "test", type: "create_session" };
    this.session = (await this.post("create_session", request)).session_id as string;
    return this;
  }

  /** The result of a request. */
  async result({ request_id }: Record<string, unknown>): Promise<Answered> {
    for (;;) {
      const answer = await this.send("POST", "retrieve_future", { request_id, allow_metadata_only: true });
      if (answer.status === 408) continue;
      if (answer.status !== 200) throw new Refused(answer.status, JSON.stringify(answer.json));
      if (typeof answer.json.error === "string") throw new Refused(0, answer.json.error);
      return answer;
    }
  }

  async done(path: string, body: object | Uint8Array): Promise<Record<string, unknown>> {
    return (await this.result(await this.post(path, body))).json;
  }

  next(modelId: string): number {
    const seq = (this.seq.get(modelId) ?? 0) + 1;
    this.seq.set(modelId, seq);
    return seq;
  }

  async createModel(lora: object = { rank: 4, seed: 5 }, more: object = {}): Promise<string> {
    const request = {
      session_id: this.session,
      model_seq_id: this.models++,
      base_model: "tiny",
      lora_config: lora,
      ...more,
    };
    return (await this.done("create_model", request)).model_id as string;
  }

  /** A model that goes on from saved weights. */
  async createFrom(path: string, optimizer: boolean): Promise<string> {
    const request = { session_id: this.session, model_seq_id: this.models++, path, optimizer, type: "load_weights" };
    return (await this.done("load_weights", request)).model_id as string;
  }

  async pass(modelId: string, pass: Pass): Promise<Passed> {
    const answer = await this.result(await this.post("forward_backward", passBody(modelId, this.next(modelId), pass)));
    return readPassed(answer.bytes);
  }

  step(modelId: string, adam: object = { learning_rate: 1e-3 }): Promise<Record<string, unknown>> {
    return this.ordered("optim_step", modelId, { adam_params: adam });
  }

  ordered(path: string, model_id: string, more: object): Promise<Record<string, unknown>> {
    return this.done(path, { model_id, seq_id: this.next(model_id), ...more });
  }

  async sampler(of: object): Promise<string> {
    const request = { session_id: this.session, sampling_session_seq_id: this.samplers++, ...of };
    return (await this.post("create_sampling_session", request)).sampling_session_id as string;
  }

  async sample(sampling_session_id: string, ids: readonly number[], params: object, more: object = {}): Promise<Drawn> {
    const prompt = { chunks: [{ type: "encoded_text", tokens: ids }] };
    const request = { sampling_session_id, seq_id: this.samples++, prompt, sampling_params: params, ...more };
    return readDrawn((await this.result(await this.post("asample", request))).bytes);
  }
}
