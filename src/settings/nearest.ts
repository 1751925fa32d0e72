/** Levenshtein distance: single-character insertions, deletions and substitutions that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitute, previous[j] + 1, current[j - 1] + 1));
    }
    previous = current;
  }
  return previous[b.length];
}

/** Slips that a word may hold and still be meant: in a short word one letter more makes another word. */
const slips = (word: string): number => (word.length <= 4 ? 1 : word.length <= 8 ? 2 : Math.ceil(word.length * 0.25));

/** How far a name is from a known one; infinite where it cannot be meant: bf16 is not fp16, use_lora not use_rslora. */
function farness(name: string, known: string): number {
  const [a, b] = [name.split("_"), known.split("_")];
  // Words that run together, or apart, are one slip.
  if (a.length !== b.length) return within(a.join(""), b.join("")) + Math.abs(a.length - b.length);
  return a.reduce((sum, part, i) => sum + within(part, b[i]), 0);
}

function within(a: string, b: string): number {
  const distance = editDistance(a, b);
  return distance <= slips(a.length < b.length ? a : b) ? distance : Number.POSITIVE_INFINITY;
}

/** Names that may be meant by a word: those nearest to it, else those that hold all its parts. At most three. */
export function nearNames(word: string, candidates: Iterable<string>): string[] {
  const name = word.toLowerCase().replaceAll("-", "_");
  const all = [...new Set(candidates)];
  const far = all.map((candidate) => farness(name, candidate.toLowerCase()));
  const best = Math.min(...far);
  if (Number.isFinite(best)) return all.filter((_, i) => far[i] === best).slice(0, 3);
  const parts = name.split("_");
  if (name.length < 4) return [];
  const holding = all.filter((candidate) => parts.every((part) => candidate.toLowerCase().split("_").includes(part)));
  return holding.length <= 3 ? holding : [];
}

/** The candidate nearest to `word`, or null when none is near enough to be what the person meant. */
export const nearest = (word: string, candidates: Iterable<string>): string | null =>
  nearNames(word, candidates)[0] ?? null;

/**
 * ` (did you mean "x"?)`, or nothing.
 * @param shown how a candidate is written; default: in quotes
 */
export function didYouMean(
  word: string,
  candidates: Iterable<string>,
  shown: (name: string) => string = (name) => `"${name}"`,
): string {
  const found = nearNames(word, candidates).map(shown);
  return found.length === 0 ? "" : ` (did you mean ${found.join(" or ")}?)`;
}
