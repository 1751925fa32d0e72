/** How long a judge learns: apart from its training, so that a page knows it without the library. */

/** Pairs in one optimizer step of the judge. */
export const JUDGE_BATCH = 8;

/** Optimizer steps that a judge of so many pairs takes. */
export const judgeSteps = (pairs: number): number => Math.ceil(pairs / JUDGE_BATCH);
