/** The keys that decide a pair: arrows or 1 and 2 for a side, space or 0 for none, Z or Backspace to undo. */
import type { Answer } from "./labels.ts";

/**
 * Takes a key that was pressed on a pair; other keys go their way.
 * @param undo takes the last decision back. Default: none can be taken back
 */
export function decideByKey(event: KeyboardEvent, choose: (choice: Answer["choice"]) => void, undo?: () => void): void {
  if (event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
  const onButton = event.target instanceof HTMLButtonElement; // there the space presses it
  if (event.key === "ArrowLeft" || event.key === "1") choose("left");
  else if (event.key === "ArrowRight" || event.key === "2") choose("right");
  else if (event.key === "0" || (event.key === " " && !onButton)) choose("none");
  else if (undo && ["z", "Z", "Backspace"].includes(event.key)) undo();
  else return;
  event.preventDefault();
}
