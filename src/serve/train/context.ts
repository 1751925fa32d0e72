/** What all parts of a training server share. */

import type { LoraOptions } from "../../nn/lora-options.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { Files } from "../../runtime/files.ts";
import type { OpenModel } from "../adapters.ts";
import type { Admission } from "../limits.ts";
import type { Line } from "../line.ts";
import type { ServedModels } from "../models.ts";
import type { Checkpoints } from "./checkpoints.ts";
import type { Futures } from "./futures.ts";
import type { TrainingLimits } from "./limits.ts";
import type { Sessions } from "./sessions.ts";

/** What a training server trains, and where it saves. */
export interface TrainingSource extends TrainingLimits {
  files: Files;
  /** Everything that clients save lies below it. */
  folder: string;
  /** What clients are to open the tokenizer by, where it is not the model's name. */
  tokenizer: string | null;
  /** What the served model is: "llama". */
  readonly family: string;
  /** Names of its linear layers. */
  modules(): readonly string[];
  /** A fresh adapter on the served model. */
  adapt(lora: LoraOptions, seed: number, label: string): CausalLM;
  /** Opens the adapter of a folder on the served model, under a name. */
  open(folder: string, name: string): Promise<OpenModel>;
}

export interface Context {
  readonly source: TrainingSource;
  readonly models: ServedModels;
  readonly sessions: Sessions;
  readonly futures: Futures;
  readonly checkpoints: Checkpoints;
  /** What all answers of the server may cost. */
  readonly admission: Admission;
  /** The device does one pass, step or save at a time. */
  readonly line: Line;
  /** Largest request body, and tokens that one request may have computed. */
  readonly maxBodyBytes: number;
  readonly maxRequestTokens: number;
  readonly log: (line: string) => void;
}
