/** Where a run stands, as one machine: the worker obeys it, and the page foresees by it what the worker will say. */
import type { RunState } from "./contract.ts";

/** A state, and whether the program was begun. */
export interface Standing {
  readonly state: RunState;
  readonly begun: boolean;
}

/** What a page orders. */
export type OrderName = "pause" | "resume" | "step" | "cancel";
/** What happens: the program begins, waits at its gate, ends, fails; or the worker itself is gone. */
export type Fact = "begin" | "hold" | "end" | "fail" | "crash";

export const START: Standing = { state: "waiting", begun: false };

export const isOver = ({ state }: Standing): boolean => state === "cancelled" || state === "done" || state === "broken";

/** The standing after something was ordered or happened. What makes no sense changes nothing. */
export function next(now: Standing, what: OrderName | Fact): Standing {
  const { state, begun } = now;
  if (isOver(now)) return now;
  const to = (state: RunState, started = begun): Standing => ({ state, begun: started });
  const cancelling = state === "cancelling";
  switch (what) {
    case "pause":
      if (state === "running") return to("pausing");
      return state === "waiting" ? to("paused") : now;
    case "resume":
    case "step":
      if (state === "paused") return to(begun ? "running" : "waiting");
      return state === "pausing" ? to("running") : now;
    case "cancel":
      return to(begun ? "cancelling" : "cancelled");
    case "begin":
      return state === "waiting" ? to("running", true) : now;
    case "hold":
      return state === "running" || state === "pausing" ? to("paused") : now;
    case "end":
      return to(cancelling ? "cancelled" : "done");
    case "fail":
      return to(cancelling ? "cancelled" : "broken");
    case "crash":
      if (cancelling) return to("cancelled");
      return to(state === "pausing" || state === "paused" ? "paused" : "waiting", false);
  }
}
