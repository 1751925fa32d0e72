/** Which adapter this is, and what it offers. */
import { adapter, adapterNote } from "../../gpu/device.ts";
import type { DayContext, DayItem } from "../item.ts";

export const about: DayItem = {
  name: "about",
  summary: "the adapter, its features and limits",
  share: 3,
  async run({ caps, note }: DayContext) {
    const { info, features, limits } = adapter();
    const { vendor, architecture, device, description } = info;
    const matrices = caps.matrices ? Object.values(caps.matrices).join("x") : "none"; // m x n x k
    const offered = { matrices, features: [...features].sort() };
    note({ ...caps, note: adapterNote(), vendor, architecture, device, description, ...offered });
    const known: Record<string, number> = {};
    for (const name in limits) {
      const value: unknown = limits[name as keyof GPUSupportedLimits];
      if (typeof value === "number") known[name] = value;
    }
    note(known);
  },
};
