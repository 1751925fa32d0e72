/** A session of OpenEnv's protocol (Meta and Hugging Face, `openenv-core` 0.3): one client, who plays one episode after another. */
import type { ChatMessage } from "../../data/chat-template.ts";
import { checkMessages } from "../../data/messages.ts";
import type { Environment, Episode, EpisodeStart, Observation } from "../../rlhf/environment/environment.ts";
import { answered, checked, endEpisode } from "../../rlhf/environment/episode.ts";
import { toolCalls } from "../../rlhf/environment/tool-calls.ts";
import { UserError } from "../../runtime/errors.ts";

/** Characters of a message at most, as this project's client takes them. */
export const LONGEST_MESSAGE = 1 << 20;

/** What can be wrong with a message, by OpenEnv's names. */
type ErrorCode =
  | "INVALID_JSON"
  | "UNKNOWN_TYPE"
  | "VALIDATION_ERROR"
  | "EXECUTION_ERROR"
  | "CAPACITY_REACHED"
  | "SESSION_ERROR";

/** What a client is answered. */
export type SessionAnswer =
  | { type: "observation"; data: { observation: Record<string, unknown>; reward: number | null; done: boolean } }
  | { type: "state"; data: { episode_id: string | null; step_count: number } }
  | { type: "error"; data: { message: string; code: ErrorCode } };

/** An answer that says what is wrong. */
export const errorAnswer = (code: ErrorCode, message: string): SessionAnswer => ({
  type: "error",
  data: { message, code },
});

/** JSON schemas of what is said in a session, as `/schema` gives them: an action is a text, and so is what one sees. */
export const schemas = {
  action: {
    title: "Action",
    type: "object",
    properties: {
      text: { type: "string", description: "What the policy writes" },
      metadata: { type: "object", description: "Is not looked at" },
    },
    required: ["text"],
    additionalProperties: false,
  },
  observation: {
    title: "Observation",
    type: "object",
    properties: {
      text: { type: "string", description: "What the policy sees next" },
      tools: { type: "array", items: { type: "object" }, description: "JSON schemas of the tools that it may call" },
    },
    required: ["text"],
  },
  state: {
    title: "State",
    type: "object",
    properties: {
      episode_id: { anyOf: [{ type: "string" }, { type: "null" }] },
      step_count: { type: "integer" },
    },
  },
} as const;

/** A message that is not as it must be. */
class Invalid extends Error {}

/** An episode that is under way. */
interface Playing {
  episode: Episode;
  id: string | null;
  turns: number;
  over: boolean;
}

/** Answers the messages of one client, one at a time. */
export class EnvironmentSession {
  readonly #environment: Environment;
  readonly #timeout: number;
  readonly #stopped: Promise<never>;
  #stop: (reason: Error) => void = () => {};
  #playing: Playing | null = null;

  /** @param timeout milliseconds that the environment may take for an answer */
  constructor(environment: Environment, timeout: number) {
    this.#environment = environment;
    this.#timeout = timeout;
    this.#stopped = new Promise((_, reject) => {
      this.#stop = reject;
    });
    this.#stopped.catch(() => {}); // who waits for the environment hears of it
  }

  /** The answer to a message; null to one that says goodbye. What the environment throws is told, and the session goes on. */
  async answer(message: unknown): Promise<SessionAnswer | null> {
    const { type, data = {} } = (isRecord(message) ? message : {}) as { type?: unknown; data?: unknown };
    try {
      switch (type) {
        case "reset":
          return await this.#reset(recordOf(data, "reset"));
        case "step":
          return await this.#step(recordOf(data, "step"));
        case "state": {
          const { id = null, turns = 0 } = this.#playing ?? {};
          return { type: "state", data: { episode_id: id, step_count: turns } };
        }
        case "close":
          return null;
        default:
          return errorAnswer("UNKNOWN_TYPE", "the type of a message is reset, step, state or close");
      }
    } catch (error) {
      const code = error instanceof Invalid ? "VALIDATION_ERROR" : "EXECUTION_ERROR";
      return errorAnswer(code, error instanceof Error ? error.message : String(error));
    }
  }

  /** Gives up the episode that is under way, and whatever is waited for. */
  async close(): Promise<void> {
    this.#stop(new UserError("the session is over"));
    await this.#leave();
  }

  async #leave(): Promise<void> {
    const playing = this.#playing;
    this.#playing = null;
    if (playing) await endEpisode(playing.episode);
  }

  async #reset({ seed = anySeed(), episode_id = null, ...columns }: Record<string, unknown>): Promise<SessionAnswer> {
    if (typeof seed !== "number" || !Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) {
      throw new Invalid("seed must be a whole number from 0 to 4294967295");
    }
    if (episode_id !== null && typeof episode_id !== "string") throw new Invalid("episode_id must be a text");
    await this.#leave();
    const prompt = promptOf(this.#environment, columns, seed);
    const limits = { timeout: this.#timeout, stopped: this.#stopped };
    const episode = await answered((signal) => this.#environment.reset({ prompt, seed, signal }), limits);
    if (typeof episode?.step !== "function") {
      throw new UserError("reset of the environment gives no episode, an object with a step function");
    }
    this.#playing = { episode, id: episode_id, turns: 0, over: false };
    const text = textOf(episode.observation ?? prompt.messages ?? prompt.text);
    if (text === "") {
      throw new UserError("the episode shows nothing first: reset takes the column prompt, as a text or messages");
    }
    const observation = { text, ...(episode.tools && { tools: episode.tools }) };
    return { type: "observation", data: { observation, reward: null, done: false } };
  }

  async #step(action: Record<string, unknown>): Promise<SessionAnswer> {
    const { text, metadata: _, ...others } = action;
    if (typeof text !== "string") throw new Invalid("an action has a text");
    const [other] = Object.keys(others);
    if (other !== undefined) throw new Invalid(`an action has no ${other.slice(0, 100)}`);
    const playing = this.#playing;
    if (!playing || playing.over) {
      return errorAnswer(
        "SESSION_ERROR",
        `${playing ? "the episode is over" : "no episode is under way"}: reset first`,
      );
    }
    const turn = playing.turns++;
    // Nobody here knows the client's tokens.
    const said = { text, ids: new Uint32Array(0), ...toolCalls(text), turn, ended: true };
    const limits = { timeout: this.#timeout, stopped: this.#stopped };
    playing.over = true; // unless it goes on: one that failed may still be at work
    try {
      const outcome = await answered((signal) => playing.episode.step({ ...said, signal }), limits);
      const { observation = "", reward = 0, done = false } = checked(outcome, true);
      const shown = { text: textOf(observation) };
      playing.over = done;
      return { type: "observation", data: { observation: shown, reward, done } };
    } finally {
      if (playing.over) await endEpisode(playing.episode);
    }
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function recordOf(data: unknown, type: string): Record<string, unknown> {
  if (isRecord(data)) return data;
  throw new Invalid(`the data of ${type} must be an object`);
}

const anySeed = (): number => crypto.getRandomValues(new Uint32Array(1))[0];

/** What an episode begins from: the columns that a client sends or, where it sends none, a row of the environment's own. */
function promptOf(environment: Environment, columns: Record<string, unknown>, seed: number): EpisodeStart["prompt"] {
  const row = Object.keys(columns).length > 0 ? columns : (environment.rows?.(1, seed, "train")[0] ?? {});
  const none = { text: "", ids: new Uint32Array(0), row };
  const { prompt } = row;
  if (typeof prompt === "string") return { ...none, text: prompt };
  if (!Array.isArray(prompt)) return none;
  try {
    return { ...none, messages: checkMessages(prompt, "prompt", "reset") };
  } catch (error) {
    throw new Invalid((error as Error).message);
  }
}

/** What is shown, as a text: of messages what they say, one after another. */
function textOf(observation: Observation): string {
  if (typeof observation === "string") return observation;
  if (observation instanceof Uint32Array) {
    throw new UserError("the environment shows token ids, which a client has no use for: it cannot be played here");
  }
  const said = ({ content }: ChatMessage) => (typeof content === "string" ? content : JSON.stringify(content ?? ""));
  return observation.map(said).join("\n");
}
