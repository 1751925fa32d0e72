/** Whose results are looked at, which are drawn again to be sure, and which go with a member that was caught. */

/** Results that one member may get wrong, one after the other, before none of its are looked at any more. */
const MOST_REFUSED = 3;

/** What is thought of a cluster's members; `R` is a result that was taken. */
export class Trust<R> {
  private readonly share: number;
  private readonly random: () => number;
  private readonly wrong = new Map<string, number>();
  private readonly known = new Set<string>();
  private readonly unsure = new Map<string, { at: number; result: R }[]>();
  private clock = 0;

  /**
   * @param share part of the results that are drawn again; with any, the first one of each worker, too. 0 draws none.
   * @param random in [0, 1); workers must not be able to foresee it
   */
  constructor(share: number, random: () => number = Math.random) {
    this.share = share;
    this.random = random;
  }

  /** Whether any result is drawn again. */
  get checks(): boolean {
    return this.share > 0;
  }

  /** Whether nothing that a member sends is looked at. */
  ignores(member: string): boolean {
    return (this.wrong.get(member) ?? 0) >= MOST_REFUSED;
  }

  /** A member's result could not be one. */
  refused(member: string): void {
    this.wrong.set(member, (this.wrong.get(member) ?? 0) + 1);
  }

  /** Whether a result is to be drawn again before it is taken. */
  isDue(member: string, worker: string): boolean {
    if (this.share === 0) return false;
    const name = `${member}/${worker}`;
    const first = !this.known.has(name);
    this.known.add(name);
    return first || this.random() < this.share;
  }

  /** The moment, for `passed`: results that come later are later. */
  now(): number {
    return ++this.clock;
  }

  /** A member's result was taken. */
  took(member: string, result: R): void {
    this.wrong.delete(member);
    if (this.share === 0) return;
    this.unsure.set(member, [...(this.unsure.get(member) ?? []), { at: this.now(), result }]);
  }

  /** A result that came at some moment was drawn again and is the same: what came before it is believed. */
  passed(member: string, at: number): void {
    this.unsure.set(
      member,
      (this.unsure.get(member) ?? []).filter((taken) => taken.at > at),
    );
  }

  /** One was not the same: nothing is looked at any more, and what was taken since the last good one is given back. */
  caught(member: string): R[] {
    this.wrong.set(member, MOST_REFUSED);
    const dropped = this.unsure.get(member) ?? [];
    this.unsure.delete(member);
    return dropped.map(({ result }) => result);
  }
}
