/** Decides what a screen reader hears: the latest text, at most once per interval, never the same twice in a row. */
export class Announcer {
  private said = "";
  private next: string | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private last = Number.NEGATIVE_INFINITY;
  private readonly speak: (text: string) => void;
  private readonly interval: number;

  /** @param interval milliseconds between two announcements */
  constructor(speak: (text: string) => void, interval = 2000) {
    this.speak = speak;
    this.interval = interval;
  }

  say(text: string): void {
    this.next = text;
    if (this.timer !== null) return;
    const wait = Math.max(0, this.last + this.interval - performance.now());
    this.timer = setTimeout(() => this.flush(), wait);
  }

  private flush(): void {
    this.timer = null;
    const text = this.next;
    this.next = null;
    if (text === null || text === this.said) return;
    this.said = text;
    this.last = performance.now();
    this.speak(text);
  }
}
