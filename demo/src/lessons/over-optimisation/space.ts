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

/** What a cloud is beside the ground. */
export interface Beside {
  /** How wide it is in both directions together; 1: as wide as the ground. */
  width: number;
  /** The share of its answers that the judge scores above all stories of the ground. */
  above: number;
  /** Their mean true reward. */
  truth: number;
}

export function beside(ground: readonly SpacePoint[], points: readonly SpacePoint[]): Beside {
  const best = Math.max(...ground.map(([, , score]) => score));
  return {
    width: spread(points) / (spread(ground) || 1),
    above: points.filter(([, , score]) => score > best).length / points.length,
    truth: mean(points, 3),
  };
}

const mean = (points: readonly SpacePoint[], k: 0 | 1 | 3): number =>
  points.reduce((sum, point) => sum + point[k], 0) / points.length;

/** The standard deviation in the plane. */
function spread(points: readonly SpacePoint[]): number {
  const squares = ([0, 1] as const).map((k) => {
    const middle = mean(points, k);
    return points.reduce((sum, point) => sum + (point[k] - middle) ** 2, 0) / points.length;
  });
  return Math.sqrt(squares[0] + squares[1]);
}
