/** Watches a text that comes in pieces for strings that end it. */
export class StopStrings {
  private readonly stops: readonly string[];
  /** Text that may be the beginning of a stop string. */
  private held = "";

  constructor(stops: readonly string[]) {
    this.stops = stops.filter((s) => s !== "");
  }

  /** The text that may go out now, and the stop string that was found, if any: what follows it is lost. */
  push(text: string): { text: string; stop: string | null } {
    const all = this.held + text;
    let at = all.length;
    let found: string | null = null;
    for (const stop of this.stops) {
      const i = all.indexOf(stop);
      if (i >= 0 && (i < at || found === null)) {
        at = i;
        found = stop;
      }
    }
    const out = found === null ? all.length - this.beginning(all) : at;
    this.held = found === null ? all.slice(out) : "";
    return { text: all.slice(0, out), stop: found };
  }

  /** What was held back, when no more comes. */
  end(): string {
    const rest = this.held;
    this.held = "";
    return rest;
  }

  /** Length of the longest end of `text` with which a stop string begins. */
  private beginning(text: string): number {
    let longest = 0;
    for (const stop of this.stops) {
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--) {
        if (text.endsWith(stop.slice(0, n))) longest = n;
      }
    }
    return longest;
  }
}
