/**
 * The command line as a library: one's own verbs, and the program that runs them beside those of webrlhf.
 * @module webrlhf/cli
 */
export { main } from "./program.ts";
export { processTerminal, type Terminal, type Tone } from "./terminal.ts";
export { type TrainingExtras, trainingVerb } from "./train.ts";
export { type Context, defineVerb, Interrupted, type TypedVerb, type Verb } from "./verb.ts";
export { registerVerb } from "./verbs/index.ts";
