import { reportVerb } from "./report.ts";
import type { Verb } from "./verb.ts";

/** In the order of `--help`. `run` and `doctor` are not verbs that a recipe could name. */
export const verbs: readonly Verb[] = [reportVerb];
