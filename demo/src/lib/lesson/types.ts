/** What a lesson is made of. A lesson's folder says all of it; nothing else names lessons. */
import type { Files } from "webrlhf";
import type { Sample, TrainEvent } from "webrlhf/rlhf";
import type { Language, Text } from "../language.ts";
import type { Address } from "./address.ts";

/** How large a run may be: S on a phone or a CPU, M on a laptop's GPU, L on a larger one. */
export type Size = "S" | "M" | "L";

/** Where the language model lies that everything starts from. */
export interface Start {
  files: Files;
  folder: string;
}

/** A value that survives JSON. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** What a lesson's program says while it runs; figures and checks are functions over these alone. */
export type LessonEvent =
  /** Said before a part's work begins. */
  | { type: "enter"; stage: string }
  /** An event of a trainer. */
  | { type: "train"; stage: string; event: TrainEvent }
  /** Numbers measured after so many steps, mostly on held-out prompts: `gold` and its standard error `gold_se`. */
  | { type: "measured"; stage: string; step: number; values: Record<string, number> }
  | { type: "samples"; stage: string; step: number; samples: Sample[] }
  /** The lesson's own. */
  | { type: "data"; name: string; data: Json };

export interface ProgramContext {
  start: Start;
  files: Files;
  /** The run's own folder in `files`: with what an earlier part of the same run saved there, it goes on from it. */
  folder: string;
  signal: AbortSignal;
}

export interface QueryContext {
  start: Start;
  signal: AbortSignal;
  /** What the run that is shown has saved so far; null where the page shows a recorded one. */
  run: Pick<ProgramContext, "files" | "folder"> | null;
}

/** A question to the worker besides a run: answered between two events of a run, or where none is at work. */
export type Query = (argument: Json, context: QueryContext) => Promise<Json>;

/** A lesson's work: library calls alone, so that it runs in a worker and in Node. Frees its models however it ends. */
export type Program<Input> = (input: Input, context: ProgramContext) => AsyncGenerator<LessonEvent>;

/** Numbers of a check, by name. */
export type Numbers = Record<string, number>;

/** A change and its standard error. */
export interface Gain {
  gain: number;
  se: number;
}

/** One thing that a run must show for the lesson's point to be seen. */
export interface Check {
  id: string;
  /** What is claimed: "After training the loss is below 2". */
  claim: Text;
  /** The numbers that decide it; null while the run has not come that far. */
  measure(events: readonly LessonEvent[]): Numbers | null;
  holds(numbers: Numbers): boolean;
  /** What came out, with the numbers and how sure they are. */
  says(numbers: Numbers, language: Language): string;
}

/** A question before the run, answered by choice. */
export interface ChoicePrediction {
  id: string;
  asks: Text;
  options: readonly { id: string; text: Text }[];
  /** The option that this run made true; null: not told yet, or too close to call. */
  outcome(events: readonly LessonEvent[]): string | null;
}

/** A curve drawn before the run, laid over it afterwards. */
export interface CurvePrediction {
  id: string;
  asks: Text;
  xLabel: Text;
  yLabel: Text;
  /** The axes to draw on. */
  x: readonly [number, number];
  y: readonly [number, number];
  /** The curve of the run, as far as it has come. */
  outcome(events: readonly LessonEvent[]): readonly (readonly [number, number])[];
}

// biome-ignore lint/suspicious/noExplicitAny: lessons of all inputs stand in one list
export interface Lesson<Input = any> {
  slug: string;
  /** Its place, 1 to 9. */
  number: number;
  title: Text;
  /** One sentence: what one knows afterwards. */
  aha: Text;
  /** What the button that starts a run says. Default: that it trains. */
  start?: Text;
  /** What a run does, in this size: the lesson's question with its defaults. Everything that decides the run is in it. */
  input(size: Size, seed: number): Input;
  /** A run with the wrong knob, in which every check fails: a check that cannot fail shows nothing. */
  wrong(size: Size, seed: number): Input;
  /** Reads an input out of an untrusted link or file; throws with words. */
  parse(value: unknown): Input;
  /** Fields of the input that stay in this browser: no link carries them, and a link that does is refused. */
  private?: readonly string[];
  /** The address of a run with this input. Default: no link leads to a recorded run. */
  addressOf?(input: Input): Address;
  /** The training of a run as a recipe: `webrlhf run` gives the same curve and the same weights. Null: of this run there is none. */
  recipe?(input: Input): string | null;
  /** Why a run of which there is no recipe has none. */
  noRecipe?: Text;
  /** How far a run moved the truth on held-out prompts, with its standard error: what runs of a class are ranked by. */
  truth?(events: readonly LessonEvent[]): Gain | null;
  predictions: readonly (ChoicePrediction | CurvePrediction)[];
  checks: readonly Check[];
  /** The runs that are recorded over the lesson's question, 3 to 6; the first is shown at once. */
  recorded: readonly { name: Text; input: Input }[];
  /** Leaves out of a recording what no figure or check needs. Default: keeps all. */
  keep?(event: LessonEvent): LessonEvent | null;
  /** Steps of the whole run, for a progress bar: those of the trainers in it, and data of that name. */
  steps(input: Input): number;
}

/** A recorded run of a lesson. */
export interface Recording {
  name: Text;
  input: Json;
  /** The adapter it was made on. */
  device: string;
  events: LessonEvent[];
}
