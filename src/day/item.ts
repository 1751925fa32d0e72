/** What a day on a GPU consists of: items, each of which gives figures, and stands alone in a process of its own. */
import type { Caps } from "../gpu/device.ts";
import type { DayModel } from "./models.ts";

/** A figure as it is kept in the file. */
export interface Figure {
  /** What was measured: "NT 8192x960x576". */
  readonly what: string;
  readonly value: number;
  readonly unit: "GFLOP/s" | "GB/s" | "tokens/s" | "µs" | "ms" | "error";
  /** Which ceiling bounds it, where one does, and what of it was reached, in the ceiling's unit. */
  readonly bound?: { readonly ceiling: Ceiling; readonly reached: number };
  /** How it was computed, or what was chosen: the kernel's variant, the settings. */
  readonly how?: string;
  /** The least time of all samples, in the figure's unit where it is a rate or a time. */
  readonly best?: number;
  readonly samples?: number;
  /** True where a value was compared and lies beyond what is accepted. */
  readonly wrong?: boolean;
}

/** Properties of an adapter, in plain values. */
export type Facts = Readonly<Record<string, string | number | boolean | readonly string[]>>;

/** Units of the ceilings that the day measures: what an adapter cannot do faster. */
export const ceilingUnits = { "f32 multiply-adds": "GFLOP/s", "f16 multiply-adds": "GFLOP/s", memory: "GB/s" } as const;
/** Name of a ceiling: a key of `ceilingUnits`. */
export type Ceiling = keyof typeof ceilingUnits;

/** The surroundings of an item of the day: what it works with, and who hears of its figures. */
export interface DayContext {
  readonly caps: Caps;
  readonly model: DayModel;
  /** Seconds there are; an item stops when they are over, and leaves the rest out. */
  readonly seconds: number;
  /** Takes each figure as soon as it is known: what comes before a crash is kept. */
  tell(figure: Figure): void;
  /** Takes what is known of the adapter besides figures. */
  note(facts: Facts): void;
}

/** A part of the day. */
export interface DayItem {
  readonly name: string;
  /** What it finds out, for people. */
  readonly summary: string;
  /** Its share of the day's minutes, in parts of all items' shares. */
  readonly share: number;
  run(context: DayContext): Promise<void>;
}
