/**
 * Programs in a worker of a page: `serveSession` in the worker, `createSession` on the page. Runs pause, step, are saved and go on
 * after a reload, a crash or a lost device.
 * @module worker
 */
export type {
  Granularity,
  Notice,
  Program,
  ProgramSource,
  Progress,
  Query,
  QueryContext,
  QuerySource,
  RunContext,
  RunEvent,
  RunMode,
  RunSpec,
  RunState,
  SavedRun,
  SessionDevice,
} from "./contract.ts";
export type { WorkerLike } from "./line.ts";
export { type RecipeEvent, type RecipeInput, recipeProgram } from "./recipe.ts";
export type { Run } from "./run.ts";
export { type Estimate, type ServeOptions, type ServeScope, serveSession } from "./serve.ts";
export { createSession, type Session, type SessionOptions } from "./session.ts";
export { type TrainInput, trainEstimate, trainProgram } from "./train.ts";
