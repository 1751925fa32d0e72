/** The figures of a page of which a narrow screen shows one at a time. */
import { getContext, setContext, tick } from "svelte";

/** A figure that stands on it. */
export interface OnShelf {
  readonly title: string;
  readonly place: HTMLElement;
}

export class Shelf {
  /** In the order of the page. */
  figures: readonly OnShelf[] = $state.raw([]);
  private chosen: OnShelf | null = $state.raw(null);

  /** The one that a narrow screen shows; null: there is none yet, and nothing is hidden. */
  get current(): OnShelf | null {
    return this.chosen ?? this.figures[0] ?? null;
  }

  /** Puts a figure on it; returns what takes it off again. */
  put(figure: OnShelf): () => void {
    const follows = (a: OnShelf, b: OnShelf) =>
      a.place.compareDocumentPosition(b.place) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1;
    this.figures = [...this.figures, figure].sort(follows);
    return () => {
      this.figures = this.figures.filter((other) => other !== figure);
      if (this.chosen === figure) this.chosen = null;
    };
  }

  /** Shows another one, and takes the focus there. */
  async choose(figure: OnShelf): Promise<void> {
    this.chosen = figure;
    await tick();
    figure.place.querySelector<HTMLElement>("select")?.focus({ preventScroll: true });
    figure.place.scrollIntoView({ block: "nearest" });
  }
}

const key = Symbol("shelf");

/** Has the page's figures stand on a shelf. */
export const offerShelf = (): void => void setContext(key, new Shelf());

/** The page's shelf; null where all figures are always shown. What lies within what stands on it is no figure of its own. */
export function shelfHere(): Shelf | null {
  const shelf = getContext<Shelf | null | undefined>(key) ?? null;
  setContext(key, null);
  return shelf;
}
