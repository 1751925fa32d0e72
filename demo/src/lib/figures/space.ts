/** What a view of the judge's space draws: where points and axes lie, and how they look. No GPU, no DOM. */

/** A point: its place in the basis, the judge's score and the true reward. */
export type SpacePoint = readonly [x: number, y: number, score: number, truth: number];

/** Points of one kind, with their own shape. */
export interface SpaceCloud {
  name: string;
  points: readonly SpacePoint[];
}

/** How the view is turned: around the upright axis and above the ground, in radians, and how near it is. */
export interface Orbit {
  turn: number;
  tilt: number;
  near: number;
}

export const startOrbit: Orbit = { turn: 0.7, tilt: 0.45, near: 1 };

const TILT = [0.05, 1.5] as const;
const NEAR = [0.5, 3] as const;

/** An orbit within what can be seen. */
export const held = ({ turn, tilt, near }: Orbit): Orbit => ({
  turn,
  tilt: Math.min(TILT[1], Math.max(TILT[0], tilt)),
  near: Math.min(NEAR[1], Math.max(NEAR[0], near)),
});

/** The orbit after a key; null where the key means nothing here. */
export function keyed(orbit: Orbit, key: string): Orbit | null {
  const step = 0.12;
  const moves: Record<string, Partial<Orbit>> = {
    ArrowLeft: { turn: orbit.turn - step },
    ArrowRight: { turn: orbit.turn + step },
    ArrowUp: { tilt: orbit.tilt + step },
    ArrowDown: { tilt: orbit.tilt - step },
    "+": { near: orbit.near * 1.15 },
    "=": { near: orbit.near * 1.15 },
    "-": { near: orbit.near / 1.15 },
    Home: startOrbit,
  };
  return key in moves ? held({ ...orbit, ...moves[key] }) : null;
}

/** Floats of an instance: x, y, z, truth from 0 to 1, shape. */
export const FLOATS = 5;

/** Truth from here to there is coloured from one end to the other. */
const TRUTH = [-1, 3.5] as const;

/** Between which places of the data the unit cube lies; from the first cloud alone, so that what leaves it is seen to. */
export interface Frame {
  low: readonly [number, number, number];
  high: readonly [number, number, number];
}

/** The frame of the first cloud. */
export function frameOf([first]: readonly SpaceCloud[]): Frame {
  const side = (k: 0 | 1 | 2) => first.points.map((point) => point[k]);
  const low = [0, 1, 2].map((k) => Math.min(...side(k as 0 | 1 | 2)));
  const high = [0, 1, 2].map((k) => Math.max(...side(k as 0 | 1 | 2)));
  return {
    low: low as [number, number, number],
    high: high.map((h, k) => (h > low[k] ? h : low[k] + 1)) as [number, number, number],
  };
}

/** Instances for the GPU: the ground is x and y, the height the score; the first cloud fills -1 to 1. */
export function instancesOf(clouds: readonly SpaceCloud[], frame: Frame): Float32Array {
  const placed = (value: number, k: 0 | 1 | 2) => (2 * (value - frame.low[k])) / (frame.high[k] - frame.low[k]) - 1;
  return Float32Array.from(
    clouds.flatMap(({ points }, shape) =>
      points.flatMap(([x, y, score, truth]) => [
        placed(x, 0),
        placed(score, 2),
        placed(y, 1),
        Math.min(1, Math.max(0, (truth - TRUTH[0]) / (TRUTH[1] - TRUTH[0]))),
        shape,
      ]),
    ),
  );
}

/** The shape of the small grey dots on the ground, which show where the data's frame lies. */
const GROUND = 9;

/** Dots on the ground below the data, to see depth by. */
export function groundOf(): Float32Array {
  const along = [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1];
  return Float32Array.from(along.flatMap((x) => along.flatMap((z) => [x, -1, z, 0.5, GROUND])));
}

/** Parts of the clouds by truth, for the flat figure: colour and shape there are the series' looks. */
export function thirds(points: readonly SpacePoint[]): { low: SpacePoint[]; middle: SpacePoint[]; high: SpacePoint[] } {
  return {
    low: points.filter(([, , , truth]) => truth < 0.5),
    middle: points.filter(([, , , truth]) => truth >= 0.5 && truth < 2),
    high: points.filter(([, , , truth]) => truth >= 2),
  };
}
