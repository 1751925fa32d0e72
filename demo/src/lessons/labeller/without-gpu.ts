/** Judges in the page itself: a linear head over recorded features of the deck's stories. */
import type { Label } from "../../lib/labels.ts";
import deck from "./deck.json" with { type: "json" };
import recorded from "./features.json" with { type: "json" };
import { dot, fitHead } from "./linear.ts";
import { unpackFeatures } from "./packed.ts";
import { leans, type Rule, rules } from "./rules.ts";

const features = unpackFeatures(recorded.features);
const places = new Map<string, number>();
for (const [i, { prompt, left, right }] of [...deck, ...recorded.heldOut].entries()) {
  places.set(`${prompt}\n${left}`, 2 * i);
  places.set(`${prompt}\n${right}`, 2 * i + 1);
}

/** The numbers of the query "judge"; labels of stories that were not recorded are left out. */
export function judgeHere(question: {
  labels: readonly Label[];
  later: readonly Label[];
  others: readonly Label[] | null;
}): Record<string, number> {
  const head = fitHead(seen(question.labels));
  const score = (story: ArrayLike<number>) => dot(head, story);
  const alike = (labels: readonly Label[]) => {
    const pairs = seen(labels);
    return { same: pairs.filter(({ chosen, rejected }) => score(chosen) > score(rejected)).length, of: pairs.length };
  };
  const first = 2 * deck.length;
  const ahead = recorded.heldOut.map((_, i) => score(features[first + 2 * i]) - score(features[first + 2 * i + 1]));
  const share = (rule: Rule) =>
    recorded.heldOut.filter((pair, i) => leans(rule, pair) * ahead[i] > 0).length / ahead.length;
  const values: Record<string, number> = {
    ...Object.fromEntries(rules.map((rule) => [rule, share(rule)])),
    of: ahead.length,
  };
  const later = alike(question.later);
  if (question.later.length > 0) Object.assign(values, { later_same: later.same, later_of: later.of });
  const others = alike(question.others ?? []);
  if (others.of > 0) values.others = others.same / others.of;
  return values;
}

/** The numbers of the query "decide"; null of a pair whose stories were not recorded. */
export function decideHere(labels: readonly Label[], pairs: readonly Label[]): (number | null)[] {
  const known = seen(labels);
  if (known.length === 0) return pairs.map(() => null);
  const head = fitHead(known);
  return pairs.map((pair) => {
    const [stories] = seen([pair]);
    return stories ? dot(head, stories.chosen) - dot(head, stories.rejected) : null;
  });
}

const seen = (labels: readonly Label[]) =>
  labels.flatMap(({ prompt, chosen, rejected }) => {
    const [a, b] = [places.get(`${prompt}\n${chosen}`), places.get(`${prompt}\n${rejected}`)];
    return a === undefined || b === undefined ? [] : [{ chosen: features[a], rejected: features[b] }];
  });
