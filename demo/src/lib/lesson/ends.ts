/** Which unit of work an event of a lesson ends, for whoever goes step by step. */
import type { Granularity } from "webrlhf/worker";
import type { LessonEvent } from "./types.ts";

const units = new Set<string>(["token", "phase", "rollout", "step"] satisfies Granularity[]);

/** Trainers' events of those names end such a unit; so does a lesson's own data of such a name. */
export function endsOf(event: LessonEvent): Granularity | undefined {
  const name = event.type === "train" ? event.event.type : event.type === "data" ? event.name : "";
  return units.has(name) ? (name as Granularity) : undefined;
}

/** The same for a lesson whose program exports it as `ends`: what trains in that stage prepares, and is no step of the lesson's. */
export const endsBut =
  (stage: string) =>
  (event: LessonEvent): Granularity | undefined =>
    event.type === "train" && event.stage === stage ? undefined : endsOf(event);
