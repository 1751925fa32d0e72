/** What the numbers of a run say is wrong with it, in words. */

import { every } from "./every.ts";
import type { Diagnosis, Evidence, Finding } from "./evidence.ts";
import { policy } from "./policy.ts";
import { responses } from "./responses.ts";
import { supervised } from "./supervised.ts";

/** All known traps, in the order in which a page tells them: what spoils the rest comes first. */
export const diagnoses: readonly Diagnosis[] = [...every, ...supervised, ...policy, ...responses];

/** The page of a diagnosis. */
export const pageOf = ({ id }: Pick<Diagnosis, "id">): string => `docs/diagnoses.md#${id}`;

/** The traps whose marks a run shows. Nothing is said of what the run did not log. */
export function diagnose(run: Evidence): Finding[] {
  return diagnoses.flatMap((diagnosis): Finding[] => {
    const text = diagnosis.look(run);
    const { id, title, advice } = diagnosis;
    return text === null ? [] : [{ id, title, text, advice, page: pageOf(diagnosis) }];
  });
}
