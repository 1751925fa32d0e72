/** What a trainer has asked for and lacks. */

import type { Asking, Doubtful, Iteration, Pending } from "./asked.ts";
import type { AnyJob } from "./kinds.ts";
import type { PublishedPolicy } from "./policy.ts";

/** The iterations under way, their jobs without a result, and the results that are looked at. */
export class Book<J extends AnyJob, R, C> {
  readonly pending = new Map<string, Pending<J, R, C>>();
  doubtful: Doubtful<J, R, C>[] = [];
  private readonly iterations = new Map<number, Iteration<R>>();

  /** An iteration with room for more results, of which nobody has any yet. */
  longer(
    number: number,
    more: number,
    policy: PublishedPolicy,
    { arrived, kept = number, filled }: Asking<R>,
  ): { of: Iteration<R>; first: number } {
    const known = this.iterations.get(number);
    const of = known ?? { number, policy, results: [], left: 0, arrived, kept, filled };
    const first = of.results.length;
    of.results.length += more;
    of.left += more;
    this.iterations.set(number, of);
    return { of, first };
  }

  /** An iteration that was asked for. */
  of = (number: number): Iteration<R> => {
    const iteration = this.iterations.get(number);
    if (!iteration) throw new Error(`iteration ${number} was not requested`);
    return iteration;
  };

  isOpen = (iteration: Iteration<R>): boolean => this.iterations.get(iteration.number) === iteration;

  isPending = (one: Pending<J, R, C>): boolean => this.pending.get(one.key) === one;

  isDoubtful = (one: Pending<J, R, C>): boolean => this.doubtful.some((other) => other.one === one);

  /** Policies that jobs under way are of. */
  policies = (): Set<PublishedPolicy> => new Set([...this.iterations.values()].map(({ policy }) => policy));

  /** The jobs of some iterations that have no result. */
  missing = (of: ReadonlySet<Iteration<R>>): Pending<J, R, C>[] =>
    [...this.pending.values()].filter((one) => of.has(one.of));

  forget(iteration: Iteration<R>): void {
    this.iterations.delete(iteration.number);
    for (const { key } of this.missing(new Set([iteration]))) this.pending.delete(key);
    this.doubtful = this.doubtful.filter(({ one }) => one.of !== iteration);
  }
}
