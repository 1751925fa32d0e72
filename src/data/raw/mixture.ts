/**
 * Mixtures: `name[:proportion[:path]]`, separated by commas, or a map of names to proportions. Names are registered
 * datasets, files, folders or org/name on the hub. The result is the parts one after the other, as they are written.
 */
import { UserError } from "../../runtime/errors.ts";
import { drawn, isNothing, type Proportion, parseProportion, WHOLE } from "./proportion.ts";

/** One dataset of a mixture with its proportion. */
export interface MixturePart {
  readonly name: string;
  readonly proportion: Proportion;
  /** Where the dataset's files are, when not where they are published. */
  readonly path?: string;
}

/** A mixture as a map: a proportion, or a proportion and a path, by name. */
export type MixtureMap = Readonly<
  Record<string, number | string | { readonly proportion?: number | string; readonly path?: string }>
>;

/** Seed of every mixture, whatever the run's own: the same words always mean the same samples. */
export const MIXTURE_SEED = 42;

/** What stands before the first colon that separates: a scheme or a drive letter belongs to the name. */
const PART = /^((?:[a-z]+:\/\/|[A-Za-z]:(?=[\\/]))?[^:]+)(?::([^:]*)(?::(.*))?)?$/;

/**
 * The parts that something is asked of.
 * @throws UserError for a part without a name, an unknown form of proportion, and a mixture that asks for nothing
 */
export function parseMixture(mixture: string | MixtureMap): MixturePart[] {
  const parts = typeof mixture === "string" ? fromText(mixture) : fromMap(mixture);
  checkNames(parts.map(({ name }) => name));
  if (parts.every(({ proportion }) => isNothing(proportion))) {
    throw new UserError(`the mixture ${shown(mixture)} asks for nothing: every proportion in it is 0`);
  }
  return parts.filter(({ proportion }) => !isNothing(proportion));
}

/** A dataset may stand in a mixture once. */
export function checkNames(names: readonly string[]): void {
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) {
    throw new UserError(`a mixture names "${twice}" twice; give it one proportion (above 1 repeats samples)`);
  }
}

/** A map as the text that means the same. */
export function mixtureText(mixture: MixtureMap): string {
  for (const [name, value] of Object.entries(mixture)) {
    const path = typeof value === "object" && value !== null ? (value.path ?? "") : "";
    if (/,/.test(name + path)) throw new UserError(`"${name}": a name or path in a mixture must not have a comma`);
  }
  const parts = Object.entries(mixture).map(([name, value]) => {
    const { proportion = 1, path } = typeof value === "object" && value !== null ? value : { proportion: value };
    return `${name}:${proportion}${path === undefined ? "" : `:${path}`}`;
  });
  parseMixture(parts.join(","));
  return parts.join(",");
}

function fromText(text: string): MixturePart[] {
  return text.split(",").map((part) => {
    const match = PART.exec(part.trim());
    if (!match) throw new UserError(`"${text}": "${part.trim()}" is no part of a mixture; write name:proportion:path`);
    const [, name, proportion, path] = match;
    return {
      name,
      proportion: proportion ? parseProportion(proportion, name) : WHOLE,
      ...(path && { path }),
    };
  });
}

function fromMap(map: MixtureMap): MixturePart[] {
  return Object.entries(map).map(([name, value]) => {
    const { proportion = 1, path } = typeof value === "object" && value !== null ? value : { proportion: value };
    return { name, proportion: parseProportion(proportion, name), ...(path !== undefined && { path }) };
  });
}

const shown = (mixture: string | MixtureMap) =>
  typeof mixture === "string" ? `"${mixture}"` : JSON.stringify(mixture);

/** Takes of each dataset what its proportion asks for: whole copies first, then a draw (see `drawn`). */
export function mixed<T>(
  parts: readonly { name: string; proportion: Proportion; items: readonly T[] }[],
  seed = MIXTURE_SEED,
): T[] {
  const result: T[] = [];
  for (const { name, proportion, items } of parts) {
    for (const i of drawn(items.length, proportion, name, seed)) result.push(items[i]);
  }
  return result;
}
