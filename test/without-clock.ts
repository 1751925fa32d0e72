import type { TrainEvent } from "webrlhf/rlhf";

/** An event less what the clock and the memory say, for runs that are compared. */
export function withoutClock(event: TrainEvent): TrainEvent {
  if (event.type === "step") {
    const { usage: _, ...rest } = event;
    return { ...rest, seconds: 0 };
  }
  if (event.type !== "eval" && event.type !== "checkpoint") return event;
  const { seconds: _, ...rest } = event;
  return rest;
}
