/**
 * The command line as a library: one's own verbs, and the program that runs them beside those of webrlhf.
 * @module webrlhf/cli
 */
export { main } from "./program.ts";
export { processTerminal, type Terminal } from "./terminal.ts";
export { trainingVerb } from "./train.ts";
export { type Context, defineVerb, Interrupted, type Verb } from "./verb.ts";
export { registerVerb } from "./verbs/index.ts";
