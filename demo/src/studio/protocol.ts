/** What the studio's page and its worker say to each other: plain data. */
import type { Method } from "./recipe.ts";

/** Where a model comes from: the hub, or files that were picked in the page. */
export type Source =
  /** `endpoint`: a mirror of the hub, "" for the hub itself. */
  { from: "hub"; name: string; endpoint: string } | { from: "disk"; label: string };

/** How weights that are not trained are kept on the GPU. */
export const weightKinds = ["float32", "int8", "int4"] as const;
export type Weights = (typeof weightKinds)[number];

/** A run that is thought of. */
export interface Thought {
  method: Method;
  settings: Record<string, number | string | boolean>;
}

/** A model that is to be loaded. */
export interface Asked {
  source: Source;
  dtype: Weights;
}

/** A model that was loaded. */
export interface Opened {
  type: "opened";
  /** Where the worker reads it. */
  path: string;
  /** What others find it by: its name on the hub, or its file's name. */
  base: string;
  dtype: Weights;
  parameters: number;
  /** Tokens that it sees at once. */
  context: number;
  family: string;
  /** It has a chat template: it answers messages. Without one it goes on from a text. */
  chats: boolean;
}

/** The models that answer: the base, and what an adapter made of it. */
export const sides = ["before", "after"] as const;
export type Side = (typeof sides)[number];

/** A message of a conversation. */
export type Message = {
  role: "user" | "assistant";
  content: string;
};

/** How answers are drawn. */
export interface Sampled {
  maxNewTokens: number;
  temperature: number;
  seed: number;
}

/** A few tokens of one side's answer. */
export interface Piece<Of extends string> {
  type: "piece";
  side: Of;
  text: string;
  ids: number[];
  /** Of each id, under the softmax of the model's logits. */
  logProbs: number[];
  finish: "stop" | "length" | null;
}

/** A question to the model as it was, and to the model with an adapter. */
export interface ChatInput extends Pick<Opened, "path" | "dtype">, Sampled {
  /** The shelf's name of the adapter that answers "after". */
  adapter: string | null;
  /** Each side's conversation, which ends with the same message. */
  conversations: Partial<Record<Side, Message[]>>;
}

/** Nothing that was said before it counts. */
type Begin = { type: "begin" };

export type ChatEvent = Begin | Piece<Side>;

/** Two answers of one model to one message, for somebody who says which is better. */
export interface PairInput extends Pick<Opened, "path" | "dtype">, Sampled {
  /** The shelf's name of the adapter that answers; null for the base. */
  adapter: string | null;
  prompt: string;
}

export type PairEvent = Begin | Piece<"left" | "right">;

/** Rows of the visitor, as a file. */
export interface DataFile {
  name: string;
  bytes: Uint8Array;
}

/** What stands in them. */
export interface DataSummary {
  name: string;
  records: number;
  /** How many of each kind: preference, prompt_completion, text, ... */
  kinds: Record<string, number>;
  skipped: { where: string; reason: string }[];
  /** The first few, as they were understood. */
  first: { prompt: string; chosen: string; rejected: string }[];
}

/** A run of a trainer. */
export interface TrainInput extends Pick<Opened, "path" | "base" | "dtype"> {
  method: Method;
  settings: Record<string, number | string | boolean>;
  data: DataFile;
  /** The shelf's name of what comes of it. */
  keepAs: string;
  /** The shelf's name of the reward model, where the method asks one. */
  reward: string | null;
}

/** An adapter that was trained here. */
export interface Kept {
  name: string;
  method: Method;
  base: string;
  dtype: Weights;
  steps: number;
  settings: Record<string, number | string | boolean>;
  dataName: string;
  /** The reward model that it was trained on, by its name on the shelf. */
  reward: string | null;
  /** Milliseconds since 1970. */
  made: number;
}

/** What a model would take, before it is loaded. */
export interface Look {
  base: string;
  /** Bytes that would come over the network; 0 where they are here. */
  download: number;
  /** Bytes of GPU memory, or why it cannot be. */
  memory: { what: "chat" | "train"; total: number; refused: string | null }[];
}
