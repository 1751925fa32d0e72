/** How far people who label the same things agree. */

/** A label: what somebody called the better one, a grade, a name. */
export type Label = string | number | boolean;

/** Agreement of every two of some labellers; [labellers][labellers], symmetric. */
export interface Agreement {
  /** Things that both labelled. */
  counts: number[][];
  /** Share of these on which both said the same; NaN of none. */
  agreement: number[][];
  /**
   * Cohen's kappa: (agreement - chance) / (1 - chance), where chance is how often they would agree if each drew from their own
   * labels. 1 is full agreement, 0 what chance brings. NaN where chance leaves nothing: of none, and where both always say one thing.
   */
  kappa: number[][];
}

/**
 * Compares labellers pair by pair.
 * @param labels of each labeller, for the same things in the same order; null where one said nothing
 */
export function agreementMatrix(labels: readonly (readonly (Label | null)[])[]): Agreement {
  const lengths = new Set(labels.map(({ length }) => length));
  if (lengths.size > 1)
    throw new Error(`labels of ${[...lengths].join(" and ")} things: each must have one for every thing`);
  const all = labels.map((own) => labels.map((other) => compared(own, other)));
  const matrix = (of: (numbers: Compared) => number) => all.map((row) => row.map(of));
  return {
    counts: matrix(({ count }) => count),
    agreement: matrix(({ agreement }) => agreement),
    kappa: matrix(({ agreement, chance }) => (agreement - chance) / (1 - chance)),
  };
}

interface Compared {
  count: number;
  agreement: number;
  /** What chance would bring of it. */
  chance: number;
}

function compared(own: readonly (Label | null)[], other: readonly (Label | null)[]): Compared {
  const both = own.map((_, i) => i).filter((i) => own[i] !== null && other[i] !== null);
  const count = both.length;
  const said = (labels: readonly (Label | null)[], label: Label | null) =>
    both.filter((i) => labels[i] === label).length / count;
  const kinds = new Set(both.map((i) => own[i]));
  return {
    count,
    agreement: both.filter((i) => own[i] === other[i]).length / count,
    chance: [...kinds].reduce<number>((sum, label) => sum + said(own, label) * said(other, label), 0),
  };
}
