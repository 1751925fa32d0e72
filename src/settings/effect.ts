/** Settings that mean something only where others are so: given without those, they would be ignored in silence. */

/** A condition on other settings, under which a setting has an effect. */
export interface Condition {
  /** The settings that it looks at. It says nothing in a record that has none of them. */
  readonly on: readonly string[];
  holds(values: Readonly<Record<string, unknown>>): boolean;
  /** How it fails, to follow "has no effect": "without --use_peft". */
  words(spell: (key: string) => string, values: Readonly<Record<string, unknown>>): string;
}

/** Settings by name, as far as their conditions go. */
type Conditioned = Readonly<Record<string, { readonly effect?: Condition }>>;

/** Whether a setting is set, on, or above 0. */
export const isSet = (value: unknown): boolean =>
  Array.isArray(value) ? value.length > 0 : value !== undefined && Boolean(value);

const listed = (words: readonly string[]): string =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;

/** At least one of these must be set, on, or above 0. */
export const needs = (...keys: string[]): Condition => ({
  on: keys,
  holds: (values) => keys.some((key) => isSet(values[key])),
  words: (spell) => `without ${listed(keys.map(spell))}`,
});

/** None of these may be set, on, or above 0. */
export const without = (...keys: string[]): Condition => ({
  on: keys,
  holds: (values) => !keys.some((key) => isSet(values[key])),
  words: (spell) => `together with ${listed(keys.map(spell))}`,
});

/** Another setting must have one of these values; a list must hold one of them. */
export const where = (key: string, ...wanted: unknown[]): Condition => ({
  on: [key],
  holds: (values) => [values[key]].flat().some((value) => wanted.includes(value)),
  words: (spell) => `unless ${spell(key)} is ${listed(wanted.map(String))}`,
});

/** All of these must hold, as far as there are settings that they look at. */
export const all = (...conditions: Condition[]): Condition => {
  const failing = (values: Readonly<Record<string, unknown>>) =>
    conditions.find(({ on, holds }) => on.some((key) => Object.hasOwn(values, key)) && !holds(values));
  return {
    on: conditions.flatMap(({ on }) => on),
    holds: (values) => failing(values) === undefined,
    words: (spell, values) => failing(values)?.words(spell, values) ?? "",
  };
};

/** The settings of a table, all with a condition under which they have an effect. */
export const effective = <const T extends Conditioned>(effect: Condition, table: T): T =>
  Object.fromEntries(
    Object.entries(table).map(([key, setting]) => {
      return [key, { ...setting, effect: setting.effect ? all(effect, setting.effect) : effect }];
    }),
  ) as T;

/** The source of a setting that was given: which of them in their order, and whether a value without effect is a mistake there. */
export interface Place {
  place: number;
  effect?: "always" | "unless waiting" | undefined;
}

/**
 * The settings that somebody gave a value other than their default, though it has no effect. What a later source has taken
 * the effect from (a flag that turns off what a file is about) is let be, and in a file what the file itself has turned off.
 * @param sources of the settings that were given
 */
export function ineffective(
  table: Conditioned,
  values: Readonly<Record<string, unknown>>,
  defaults: Readonly<Record<string, unknown>>,
  sources: ReadonlyMap<string, Place>,
): { key: string; effect: Condition }[] {
  return [...sources].flatMap(([key, { place, effect: checked }]) => {
    const { effect } = table[key];
    if (!checked || !effect?.on.some((other) => Object.hasOwn(table, other)) || effect.holds(values)) return [];
    if (JSON.stringify(values[key]) === JSON.stringify(defaults[key])) return [];
    const later = Math.max(-1, ...effect.on.map((other) => sources.get(other)?.place ?? -1));
    return later > place || (checked === "unless waiting" && later === place) ? [] : [{ key, effect }];
  });
}
