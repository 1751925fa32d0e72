/** JSON as a tree that can be damaged by its structure, and written with what JSON.stringify would never write. */
import type { RandomStream } from "../../src/runtime/rng.ts";

/** An object as a list of pairs, so that a key may stand in it twice. */
export interface Pairs {
  pairs: [string, Tree][];
}
export type Tree = null | boolean | number | string | Tree[] | Pairs | { raw: string };

export function treeOf(value: unknown): Tree {
  if (Array.isArray(value)) return value.map(treeOf);
  if (typeof value === "object" && value !== null) {
    const there = Object.entries(value).filter(([, inner]) => inner !== undefined);
    return { pairs: there.map(([key, inner]) => [key, treeOf(inner)]) };
  }
  return value as Tree;
}

export function written(tree: Tree): string {
  if (Array.isArray(tree)) return `[${tree.map(written).join(",")}]`;
  if (typeof tree !== "object" || tree === null) return JSON.stringify(tree);
  if ("raw" in tree) return tree.raw;
  return `{${tree.pairs.map(([key, value]) => `${JSON.stringify(key)}:${written(value)}`).join(",")}}`;
}

export const pick = <T>(random: RandomStream, list: readonly T[]): T => list[random.int(list.length)];

const isPairs = (tree: Tree): tree is Pairs => typeof tree === "object" && tree !== null && "pairs" in tree;

/** Values that readers take for others, or stumble over. */
const ODD: readonly Tree[] = [
  null,
  true,
  false,
  0,
  1,
  -1,
  2,
  1.5,
  2 ** 31,
  2 ** 53,
  { raw: "1e400" },
  { raw: "1.0" },
  { raw: "-0" },
  { raw: "18446744073709551615" },
  "",
  " ",
  "a",
  "▁",
  "Ġ",
  "\ud800",
  "\u0000",
  "0",
  [],
  { pairs: [] },
  [0],
  [null],
];

/** Every place of a tree: the container and the index of an item or pair in it. */
function places(tree: Tree, found: [Tree[] | Pairs, number][] = []): [Tree[] | Pairs, number][] {
  const items = Array.isArray(tree) ? tree : isPairs(tree) ? tree.pairs.map(([, value]) => value) : [];
  for (const [i, item] of items.entries()) {
    found.push([tree as Tree[] | Pairs, i]);
    places(item, found);
  }
  return found;
}

const valueAt = ([container, i]: [Tree[] | Pairs, number]): Tree =>
  Array.isArray(container) ? container[i] : container.pairs[i][1];

function put([container, i]: [Tree[] | Pairs, number], value: Tree): void {
  if (Array.isArray(container)) container[i] = value;
  else container.pairs[i][1] = value;
}

/** Damages one place: a value, a key, the order, or a part of another place. */
export function damage(tree: Tree, random: RandomStream, odd: readonly Tree[] = ODD): void {
  const all = places(tree);
  if (all.length === 0) return;
  const place = pick(random, all);
  const [container, i] = place;
  const value = valueAt(place);
  switch (random.int(9)) {
    case 0:
    case 1:
      put(place, structuredClone(pick(random, random.int(2) ? odd : ODD)));
      break;
    case 2:
      if (Array.isArray(container)) container.splice(i, 1);
      else container.pairs.splice(i, 1);
      break;
    case 3: {
      const twin = structuredClone(Array.isArray(container) ? container[i] : container.pairs[i]);
      if (Array.isArray(container)) container.splice(random.int(container.length + 1), 0, twin as Tree);
      else container.pairs.splice(random.int(container.pairs.length + 1), 0, twin as [string, Tree]);
      break;
    }
    case 4:
      if (!Array.isArray(container)) container.pairs[i][0] = changed(container.pairs[i][0], random);
      break;
    case 5:
      put(place, structuredClone(valueAt(pick(random, all))));
      break;
    case 6: {
      const other = pick(random, all);
      const kept = structuredClone(valueAt(other));
      put(other, structuredClone(value));
      put(place, kept);
      break;
    }
    default:
      if (typeof value === "number") put(place, value + pick(random, [1, -1, 4, -4, 0.5, 8, value]));
      else if (typeof value === "string") put(place, changed(value, random));
      else if (typeof value === "boolean") put(place, !value);
      else put(place, structuredClone(pick(random, odd)));
  }
}

function changed(text: string, random: RandomStream): string {
  const at = random.int(text.length + 1);
  const more = pick(random, ["", "x", " ", "▁", "Ġ", "\ud83d", "_", "0", "é", "__metadata__"]);
  return text.slice(0, at) + more + text.slice(at + random.int(2));
}
