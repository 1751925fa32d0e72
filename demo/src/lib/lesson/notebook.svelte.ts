/** A visitor's own predictions and notes, kept in this browser alone. */
import * as v from "valibot";
import { browser } from "$app/environment";

const place = "webrlhf/notebook";
const entry = v.union([v.string(), v.array(v.tuple([v.number(), v.number()]))]);
const schema = v.record(v.string(), entry);

/** An option's id, or the points of a curve. */
export type Predicted = v.InferOutput<typeof entry>;

class Notebook {
  private entries: Record<string, Predicted> = $state.raw(read());

  /** What was locked; null: nothing. */
  prediction(lesson: string, id: string): Predicted | null {
    return this.entries[`${lesson}/${id}`] ?? null;
  }

  lock(lesson: string, id: string, predicted: Predicted): void {
    this.entries = { ...this.entries, [`${lesson}/${id}`]: predicted };
    try {
      localStorage.setItem(place, JSON.stringify(this.entries));
    } catch {
      // A browser that keeps nothing still shows it until the page is left.
    }
  }
}

function read(): Record<string, Predicted> {
  if (!browser) return {};
  try {
    const { success, output } = v.safeParse(schema, JSON.parse(localStorage.getItem(place) ?? "{}"));
    return success ? output : {};
  } catch {
    return {};
  }
}

export const notebook = new Notebook();
