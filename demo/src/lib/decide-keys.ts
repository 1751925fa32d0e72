/** The keys that decide a pair: arrows for a side, space for none, Z or Backspace to undo. */
import type { Answer } from "./labels.ts";

/** Takes a key that was pressed on a pair; other keys go their way. */
export function decideByKey(event: KeyboardEvent, choose: (choice: Answer["choice"]) => void, undo: () => void): void {
  if (event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
  const onButton = event.target instanceof HTMLButtonElement; // there the space presses it
  if (event.key === "ArrowLeft") choose("left");
  else if (event.key === "ArrowRight") choose("right");
  else if (event.key === " " && !onButton) choose("none");
  else if (["z", "Z", "Backspace"].includes(event.key)) undo();
  else return;
  event.preventDefault();
}
