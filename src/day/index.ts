/**
 * A day on a GPU: what kernels and trainers come to on an adapter, beside what it can do at most. Each item stands alone, so
 * that whoever runs the day can give each a process of its own: a driver that falls over takes one item along, not the day.
 */
import { openDevice } from "../gpu/device.ts";
import type { DayContext, DayItem } from "./item.ts";
import { about } from "./items/about.ts";
import { attention } from "./items/attention.ts";
import { ceilings } from "./items/ceilings.ts";
import { correct, halfCanary } from "./items/correct.ts";
import { decode } from "./items/decode.ts";
import { products } from "./items/products.ts";
import { train } from "./items/train.ts";
import { type DayModel, dayModelFor } from "./models.ts";

export { noise } from "../runtime/noise.ts";
export { type Ceiling, ceilingUnits, type DayContext, type DayItem, type Facts, type Figure } from "./item.ts";
export { type DayModel, dayModelFor, dayModels } from "./models.ts";
export { type Tuned, type TunedStep, type TuneOptions, tune } from "./tune.ts";

/** All items in their order: what others stand on comes first. */
export const dayItems: readonly DayItem[] = [about, halfCanary, correct, ceilings, products, attention, decode, train];

/** Runs one item on the open device, or opens one. */
export async function runDayItem(
  item: DayItem,
  { model, ...context }: Omit<DayContext, "caps" | "model"> & { model?: DayModel | undefined },
): Promise<void> {
  const caps = await openDevice();
  await item.run({ ...context, caps, model: model ?? dayModelFor(caps.kind) });
}
