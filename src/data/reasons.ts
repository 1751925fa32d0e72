/** Why something was left out, counted by reason: "both answers are the same (3); it is too long (1)". */
export class Reasons {
  private readonly counts = new Map<string, number>();

  add(reason: string, n = 1): void {
    if (n > 0) this.counts.set(reason, (this.counts.get(reason) ?? 0) + n);
  }

  /** The counts by reason. */
  get all(): Record<string, number> {
    return Object.fromEntries(this.counts);
  }

  /** Empty where there are none. */
  toString(): string {
    return [...this.counts].map(([reason, count]) => `${reason} (${count})`).join("; ");
  }
}
