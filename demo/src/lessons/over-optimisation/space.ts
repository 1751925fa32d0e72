/** Where answers lie in the judge's hidden space: told by the program, read by the figures. */
import type { SpacePoint } from "../../lib/figures/space.ts";
import { lastData } from "../../lib/lesson/numbers.ts";
import type { LessonEvent } from "../../lib/lesson/types.ts";

/** What the judge learned from; it fixes the two directions. */
export interface Ground {
  /** The share of its variance along each direction. */
  explained: number[];
  points: SpacePoint[];
}

/** The answers to the same held-out prompts, at a look. */
export interface CloudAt {
  step: number;
  points: SpacePoint[];
}

export const GROUND = "space";
/** The step is in the name: a run that goes on tells each look once. */
export const cloudName = (step: number): string => `space-${step}`;

export const groundIn = (events: readonly LessonEvent[]): Ground | null => lastData<Ground>(events, GROUND);

/** The clouds of a run, each look once, in order. */
export function cloudsIn(events: readonly LessonEvent[]): CloudAt[] {
  const found = new Map<number, CloudAt>();
  for (const event of events) {
    const step = event.type === "data" ? /^space-(\d+)$/.exec(event.name)?.[1] : undefined;
    if (event.type === "data" && step)
      found.set(Number(step), { step: Number(step), points: event.data as unknown as SpacePoint[] });
  }
  return [...found.values()].sort((a, b) => a.step - b.step);
}

/** How far a cloud's middle lies from the ground's, along both directions, in the ground's standard deviations. */
export function away(ground: readonly SpacePoint[], points: readonly SpacePoint[]): number {
  const mean = (all: readonly SpacePoint[], k: 0 | 1) => all.reduce((sum, point) => sum + point[k], 0) / all.length;
  const along = ([0, 1] as const).map((k) => {
    const middle = mean(ground, k);
    const sd = Math.sqrt(ground.reduce((sum, point) => sum + (point[k] - middle) ** 2, 0) / ground.length);
    return (mean(points, k) - middle) / (sd || 1);
  });
  return Math.hypot(...along);
}
