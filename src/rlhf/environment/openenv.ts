/**
 * Environments of an OpenEnv server (Meta and Hugging Face, `openenv-core` 0.3). An episode is a session over WebSocket, `/ws`:
 * JSON messages `reset` and `step` are answered by `observation`, with the reward and whether the episode is over, or by `error`.
 * (The server's POST /reset and /step make a new environment for every request, so that no episode can be played by them.)
 */
import { boundedText, isPrivate, serverUrl } from "../../io/http.ts";
import { UserError } from "../../runtime/errors.ts";
import { uint32 } from "../../runtime/rng.ts";
import type { Environment, Episode, Outcome } from "./environment.ts";

/** The part of a browser's WebSocket that a session needs. */
export type SocketLike = Pick<WebSocket, "send" | "close" | "onopen" | "onmessage" | "onerror" | "onclose">;

/** How a server is reached. */
export interface OpenEnvOptions {
  /** The text field of an action that takes what the policy writes. Default: the only one that the server's schema has. */
  field?: string | null | undefined;
  /** Default: the runtime's. */
  fetch?: typeof fetch;
  /** Opens a socket. Default: the runtime's WebSocket. */
  open?: (url: string) => SocketLike;
}

/** Characters of a message, and bytes of a schema, at most. */
const LONGEST = 1 << 20;
/** Milliseconds that the server has to say what its actions are. */
const PATIENCE = 10_000;

/** Milliseconds that the server has to close a session that is over. */
const GOODBYE = 2000;

/** An answer to `reset` or `step`. */
interface Answer {
  observation: Readonly<Record<string, unknown>>;
  reward: number | null;
  done: boolean;
}

/**
 * An environment that a server plays. What the policy writes is one text field of an action; what it sees is the only text field
 * that an observation has, or all of it as JSON. `reset` is given the row's columns, and `seed`, the episode's where the row has
 * none. Its own rows are seeds, so that all responses to a prompt begin alike.
 * @param address http://127.0.0.1:8000; only this machine is asked without https
 * @throws UserError for an address that cannot be asked, and a server whose actions have no such field
 */
export async function openEnvEnvironment(address: string, options: OpenEnvOptions = {}): Promise<Environment> {
  const base = checkedAddress(address);
  const open = options.open ?? runtimeSocket(base);
  const field = await fieldOf(base, options.field ?? null, options.fetch ?? fetch);
  const name = `openenv:${base}`;
  return {
    name,
    rows: (n, seed, split) =>
      Array.from({ length: n }, (_, i) => ({ seed: uint32(seed, split === "test" ? 1 : 0, i) })),
    async reset({ prompt: { row }, seed, signal }) {
      const session = new Session(name, open(`${base.replace(/^http/, "ws")}/ws`));
      try {
        await session.opened(signal);
        const first = await session.ask("reset", { seed, ...plain(row) }, signal);
        if (first.done) throw new UserError(`${name}: the episode is over before the first turn`);
        return episodeOf(session, first, field);
      } catch (error) {
        session.close();
        throw error;
      }
    },
  };
}

const episodeOf = (session: Session, first: Answer, field: string): Episode => ({
  observation: shown(first.observation),
  async step({ text, signal }): Promise<Outcome> {
    const { observation, reward, done } = await session.ask("step", { [field]: text }, signal);
    return { observation: shown(observation), reward: reward ?? 0, done };
  },
  close: () => session.close(),
});

/** An observation as a message to the policy. */
function shown(observation: Answer["observation"]) {
  const texts = Object.values(observation).filter((value) => typeof value === "string");
  return [{ role: "user", content: texts.length === 1 ? (texts[0] as string) : JSON.stringify(observation) }];
}

/** Columns that JSON can carry. */
const plain = (row: Readonly<Record<string, unknown>> | undefined): Record<string, unknown> =>
  JSON.parse(JSON.stringify(row ?? {})) as Record<string, unknown>;

function checkedAddress(address: string): string {
  const url = serverUrl(address);
  if (!isPrivate(url)) {
    throw new UserError(`${url.origin}: only this machine is asked over plain http; take https for another one`);
  }
  if (url.search !== "") throw new UserError(`${address}: an environment's address has no query`);
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}

function runtimeSocket(base: string): (url: string) => SocketLike {
  if ("WebSocket" in globalThis) return (url) => new WebSocket(url);
  throw new UserError(
    `openenv:${base}: this Node has no WebSocket: take Node 22, or start it with --experimental-websocket`,
  );
}

/** The field of an action that takes a text, by what the server says of its actions. */
async function fieldOf(base: string, named: string | null, ask: typeof fetch): Promise<string> {
  const where = `openenv:${base}`;
  let schema: { action?: { properties?: Record<string, { type?: unknown }>; required?: string[] } } | null;
  try {
    const answer = await ask(`${base}/schema`, { signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    schema = JSON.parse(await boundedText(answer, LONGEST, where)) as typeof schema;
  } catch (error) {
    throw new UserError(`${where}: no OpenEnv server that says what its actions are: ${(error as Error).message}`);
  }
  const { properties = {}, required = [] } = schema?.action ?? {};
  const fields = Object.entries(properties).flatMap(([key, { type }]) => (type === "string" ? [key] : []));
  const others = required.filter((key) => key !== named && !fields.includes(key));
  if (others.length > 0) {
    throw new UserError(`${where}: an action needs ${others.join(", ")}, which a policy's text is not`);
  }
  if (named !== null) {
    if (fields.includes(named)) return named;
    throw new UserError(
      `${where}: actions have no text field ${named}; there ${fields.length === 0 ? "is none" : `are ${fields.join(", ")}`}`,
    );
  }
  const needed = fields.filter((key) => required.includes(key));
  const [only, ...more] = needed.length > 0 ? needed : fields;
  if (only !== undefined && more.length === 0) return only;
  throw new UserError(
    only === undefined
      ? `${where}: actions have no text field that a policy could write`
      : `${where}: actions have several text fields: name one as openenv:${base}#${only} (${[only, ...more].join(", ")})`,
  );
}

/** An episode's own environment on the server. */
class Session {
  readonly #name: string;
  readonly #socket: SocketLike;
  readonly #opened: Promise<void>;
  /** Takes the next message; what comes unasked is kept. */
  #hear: { resolve(text: string): void; reject(error: Error): void } | null = null;
  #unasked: string[] = [];
  #gone: Error | null = null;
  #leaving: ReturnType<typeof setTimeout> | undefined;

  constructor(name: string, socket: SocketLike) {
    this.#name = name;
    this.#socket = socket;
    this.#opened = new Promise((resolve, reject) => {
      socket.onopen = () => resolve();
      const fail = (why: string) => {
        clearTimeout(this.#leaving);
        this.#gone ??= new UserError(`${name}: ${why}`);
        reject(this.#gone);
        this.#hear?.reject(this.#gone);
      };
      socket.onerror = () => fail("nobody answers there by WebSocket, or the connection broke");
      socket.onclose = () => fail("the server closed the connection");
      socket.onmessage = ({ data }) => {
        if (typeof data !== "string" || data.length > LONGEST) {
          fail(`a message is no text of at most ${LONGEST} characters`);
          socket.close();
        } else if (this.#hear) this.#hear.resolve(data);
        else if (this.#unasked.length < 4) this.#unasked.push(data);
      };
    });
    this.#opened.catch(() => {}); // told where it is waited for
  }

  opened(signal: AbortSignal): Promise<void> {
    return this.#within(this.#opened, signal);
  }

  /** Sends a message and takes the answer to it. */
  async ask(type: "reset" | "step", data: object, signal: AbortSignal): Promise<Answer> {
    const early = this.#unasked.shift(); // such as that the server has no room
    if (early === undefined && this.#gone) throw this.#gone;
    const text = early ?? (await this.#within(this.#exchange(JSON.stringify({ type, data })), signal));
    return answerIn(this.#name, type, text);
  }

  /** Says goodbye, upon which the server closes; one that does not is left. */
  close(): void {
    try {
      this.#socket.send(JSON.stringify({ type: "close" }));
      if (this.#gone === null) this.#leaving = setTimeout(() => this.#socket.close(), GOODBYE);
    } catch {
      this.#socket.close(); // it is not open, or no longer
    }
  }

  #exchange(message: string): Promise<string> {
    return new Promise<string>((resolve, reject) => {
      this.#hear = { resolve, reject };
      this.#socket.send(message);
    }).finally(() => {
      this.#hear = null;
    });
  }

  /** Waits no longer than somebody wants; a session that was left is closed. */
  #within<R>(work: Promise<R>, signal: AbortSignal): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      const left = () => {
        this.#socket.close();
        reject(signal.reason as Error);
      };
      if (signal.aborted) return left();
      signal.addEventListener("abort", left, { once: true });
      work.then(resolve, reject).finally(() => signal.removeEventListener("abort", left));
    });
  }
}

function answerIn(name: string, asked: string, text: string): Answer {
  let message: { type?: unknown; data?: Record<string, unknown> } | null;
  try {
    message = JSON.parse(text) as typeof message;
  } catch {
    message = null;
  }
  const { type, data = {} } = message ?? {};
  if (type === "error") {
    const why = `${String(data.code ?? "error")}: ${String(data.message ?? "").slice(0, 500)}`;
    const room =
      data.code === "CAPACITY_REACHED"
        ? "; all episodes of a rollout are played at once, so it needs max_concurrent_envs for them"
        : "";
    throw new UserError(`${name} answered ${asked} with ${why}${room}`);
  }
  const { observation, reward: given = null, done } = data;
  const reward = typeof given === "boolean" ? Number(given) : given;
  const whole = typeof observation === "object" && observation !== null && typeof done === "boolean";
  if (type === "observation" && whole && (reward === null || typeof reward === "number")) {
    return { observation: observation as Answer["observation"], reward, done };
  }
  throw new UserError(`${name} answered ${asked} with something that is no observation`);
}
