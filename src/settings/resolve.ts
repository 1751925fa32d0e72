/** From what a person wrote, in code, in flags or in files, to the settings of a run. */
import * as v from "valibot";
import { UserError } from "../runtime/errors.ts";
import { camelCase, snakeCase } from "../runtime/names.ts";
import { expectation, schemaOf } from "./check.ts";
import { ineffective, isSet, type Place } from "./effect.ts";
import { didYouMean } from "./nearest.ts";
import { DerivedDefault, type SettingsTable, type SettingValues } from "./setting.ts";

/** Values of settings as a person wrote them, and how the person finds them again. */
export interface SettingsSource {
  readonly values: Readonly<Record<string, unknown>>;
  /** The name of a value as the person wrote it, with its place: `--kl_coef`, `kl_coef in ppo.yaml line 7`, `klCoef`. */
  spell(name: string): string;
  /**
   * Whether a value without effect is a mistake: always, or in a file unless it waits for what the file itself turns off.
   * Default: never, as in code, where settings are put together.
   */
  readonly effect?: "always" | "unless waiting" | undefined;
}

/** Values that stand in code. */
export const inCode = (values: Readonly<Record<string, unknown>>): SettingsSource => ({
  values,
  spell: (name) => name,
});

/** Values that were given as flags. */
export const onCommandLine = (values: Readonly<Record<string, unknown>>): SettingsSource => ({
  values,
  spell: (name) => `--${snakeCase(name)}`,
  effect: "always",
});

/**
 * Values that stand in a file.
 * @param lines the line of each key, where it is known
 */
export const inFile = (
  values: Readonly<Record<string, unknown>>,
  where: string,
  lines: Readonly<Record<string, number>> = {},
): SettingsSource => ({
  values,
  spell: (name) => `${name} in ${where}${lines[name] === undefined ? "" : ` line ${lines[name]}`}`,
  effect: "unless waiting",
});

/** The name of a setting, by the name itself, its snake_case, hyphens, or a foreign spelling; null for a stranger. */
export function settingNamed(table: SettingsTable, name: string): string | null {
  const camel = camelCase(name);
  if (Object.hasOwn(table, camel)) return camel;
  const snake = snakeCase(name.replaceAll("-", "_"));
  for (const [key, { aka }] of Object.entries(table)) if (aka?.includes(snake)) return key;
  return null;
}

/** The meaning here of a name, or a value, that was written for another program. */
export type Foreign =
  /** It changes nothing here. */
  | { readonly kind: "idle" }
  /** It sets these settings. */
  | { readonly kind: "sets"; readonly values: Readonly<Record<string, unknown>> }
  /** It would change the result, and cannot be done. */
  | { readonly kind: "refused"; readonly why: string };

/**
 * Looks a name and its value up among other programs'; null where the record's own meaning holds, if it has one.
 * @param given all values of the same source, by their snake_case names
 */
export type ForeignNames = (
  name: string,
  value: unknown,
  given: Readonly<Record<string, unknown>>,
  table: SettingsTable,
) => Foreign | null;

/** How resolved settings came to be: kept with them, also in copies made by `{ ...settings }`. */
interface Origin {
  dialect: string | null;
  /** Names of other programs that were given and change nothing. */
  idle: readonly string[];
  /** The name by which the value of a setting came, or would have. */
  spell(key: string): string;
  /** Settings whose values may change while they are in use. */
  live: readonly string[];
  /** Checks values as a whole, as when they were resolved. */
  again(values: object): void;
}

const ORIGIN = Symbol("origin of settings");

/** Settings with every value decided; the dialect, which decided defaults, is none of them. */
export type ResolvedSettings<T extends SettingsTable> = Omit<SettingValues<T>, "dialect">;

/** Values for some settings of a record; those that are left out have their defaults. */
export type SettingsInput<T extends SettingsTable> = Partial<SettingValues<T>>;

/** A rule on values that must go together. It throws a UserError that names settings by `spell(key)`. */
export type SettingsCheck<T extends SettingsTable> = (
  values: ResolvedSettings<T>,
  spell: (key: keyof T & string) => string,
) => void;

/** A record of settings. Calling it resolves values from code. */
export interface Settings<T extends SettingsTable = SettingsTable> {
  /**
   * The settings with all defaults. Already resolved ones pass through, checked once more.
   * @throws UserError for names it does not know, values out of range, values that contradict each other, and a `dialect`
   * beside values that another dialect has resolved
   */
  (input?: SettingsInput<T>): ResolvedSettings<T>;
  /** What the settings are of: "ppo". */
  readonly title: string;
  readonly table: T;
  /**
   * Resolves values of several sources, later ones winning. Throws a UserError that names all mistakes.
   * @param owners who else has an option of a name: "ppo". Default: nobody
   */
  resolve(sources: readonly SettingsSource[], owners?: (name: string) => readonly string[]): ResolvedSettings<T>;
  /** The part of a larger record that belongs here, with its origin. */
  pick(values: object): ResolvedSettings<T>;
}

/**
 * Makes a record of settings. From it follow checked values in code, in files and in flags, their types, and `--help`.
 *
 * ```ts
 * const best = group("Best of n");
 * const bestOfN = settings("best", {
 *   samples: best.int(4, "Responses per prompt", { min: 2, aka: ["num_return_sequences"] }),
 *   learningRate: best.float(1e-4, "Peak learning rate", { min: 0 }),
 * });
 * const { samples, learningRate } = bestOfN({ samples: 8 }); // 8 and 1e-4
 * ```
 * @param title what the settings are of, for messages
 * @param check throws a UserError for values that do not go together; it names settings by `spell(key)`
 * @param foreign knows names and values of other programs. Default: none
 */
export function settings<const T extends SettingsTable>(
  title: string,
  table: T,
  check?: SettingsCheck<T>,
  foreign?: ForeignNames,
): Settings<T> {
  const resolve = (
    sources: readonly SettingsSource[],
    before: Origin | null,
    owners?: (name: string) => readonly string[],
  ): ResolvedSettings<T> => {
    const result = resolveTable({ title, table, foreign, owners, again: pick }, sources, before) as ResolvedSettings<T>;
    check?.(result, (key) => spelled(result, key));
    return result;
  };
  const pick = (values: object): ResolvedSettings<T> => {
    const own = Object.fromEntries(Object.entries(values).filter(([key]) => Object.hasOwn(table, key)));
    return resolve([inCode(own)], originOf(values));
  };
  const call = (input: SettingsInput<T> = {}): ResolvedSettings<T> => {
    const before = originOf(input);
    const dialect = (input as { dialect?: unknown }).dialect;
    if (before && dialect !== undefined && dialect !== before.dialect) {
      throw new UserError(
        `these settings are resolved already, by the dialect ${before.dialect}: a dialect decides defaults, so write ` +
          `${title}({ dialect: ${JSON.stringify(dialect)}, ... })`,
      );
    }
    return resolve([inCode(input as Record<string, unknown>)], before);
  };
  return Object.assign(call, {
    title,
    table,
    resolve: (sources: readonly SettingsSource[], owners?: (name: string) => readonly string[]) =>
      resolve(sources, null, owners),
    pick,
  });
}

/** A record as its values are resolved by. */
interface Resolver {
  title: string;
  table: SettingsTable;
  foreign: ForeignNames | undefined;
  owners: ((name: string) => readonly string[]) | undefined;
  again: Origin["again"];
}

function resolveTable(
  { title, table, foreign, owners, again }: Resolver,
  sources: readonly SettingsSource[],
  before: Origin | null,
): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  const places = new Map<string, Place>();
  const spelling: Record<string, string> = {};
  const mistakes: string[] = [];
  const idle: string[] = [];
  for (const [place, { values, spell, effect }] of sources.entries()) {
    const later = new Set(sources.slice(place + 1).flatMap((source) => Object.keys(source.values).map(snake)));
    const from = new Map<string, string>();
    const bySnake = Object.fromEntries(Object.entries(values).map(([name, value]) => [snake(name), value]));
    for (const [name, written] of Object.entries(values)) {
      const other = before ? null : (foreign?.(snake(name), written, bySnake, table) ?? null);
      if (other && other.kind !== "sets") {
        if (later.has(snake(name))) continue;
        if (other.kind === "idle") idle.push(name);
        else mistakes.push(`${spell(name)}: ${other.why}`);
        continue;
      }
      const own = settingNamed(table, name);
      if (other === null && own === null) {
        mistakes.push(`there is no option ${spell(name)}${whose(name, spell, { title, table, owners })}`);
        continue;
      }
      for (const [key, value] of Object.entries(other?.values ?? { [own as string]: written })) {
        const twin = from.get(key);
        if (twin !== undefined) mistakes.push(`${spell(twin)} and ${spell(name)} are the same option; keep one`);
        from.set(key, name);
        if (value === undefined) continue;
        const parsed = v.safeParse(schemaOf(table[key]), value);
        const shown = before ? before.spell(key) : spell(name);
        if (parsed.success) given[key] = parsed.output;
        else {
          const seen = table[key].secret ? "" : `, not ${inWords(written)}`;
          mistakes.push(`${shown} must be ${expectation(table[key])}${seen}`);
        }
        spelling[key] = shown;
        if (own !== null) places.set(key, { place, effect }); // what others ignore may stand in their configs
      }
    }
  }
  const last = sources.at(-1) ?? inCode({});
  const spell = (key: string) => spelling[key] ?? before?.spell(key) ?? last.spell(key);
  const dialect = before ? before.dialect : dialectOf(table, given);
  const result: Record<string, unknown> = {};
  const defaults: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(table)) {
    if (key === "dialect") continue;
    const { default: value } = setting;
    defaults[key] = value instanceof DerivedDefault ? value.value(result, dialect) : value;
    result[key] = Object.hasOwn(given, key) ? given[key] : defaults[key];
    if (
      setting.required &&
      result[key] === null &&
      ![setting.unless ?? []].flat().some((other) => isSet(given[other]))
    ) {
      mistakes.push(
        `${spell(key)} is not set${spell(key).startsWith("--") ? ", neither as a flag nor in a file" : ""}`,
      );
    }
  }
  if (!before) {
    for (const { key, effect } of ineffective(table, result, defaults, places)) {
      mistakes.push(`${spell(key)} has no effect ${effect.words(spell, result)}`);
    }
  }
  if (mistakes.length > 0) throw new UserError(mistakes.join("\n"));
  const live = Object.keys(table).filter((key) => table[key].live);
  const origin: Origin = { dialect, idle: [...(before?.idle ?? []), ...idle], spell, live, again };
  return Object.freeze({ ...result, [ORIGIN]: origin });
}

function dialectOf(table: SettingsTable, given: Record<string, unknown>): string | null {
  if (!Object.hasOwn(table, "dialect")) return null;
  return (given.dialect ?? table.dialect.default) as string;
}

const originOf = (values: object): Origin | null => (values as { [ORIGIN]?: Origin })[ORIGIN] ?? null;

/** The dialect that decided the defaults of resolved settings; null where their record has none. */
export const dialectIn = (resolved: object): string | null => originOf(resolved)?.dialect ?? null;

/** Names of other programs that were among the values and change nothing here. */
export const withoutEffect = (resolved: object): readonly string[] => originOf(resolved)?.idle ?? [];

/** The name of a setting as the person who set it wrote it, for messages: `--kl_coef`, or `klCoef` in code. */
export const spelled = (resolved: object, key: string): string => originOf(resolved)?.spell(key) ?? key;

/** Resolved settings as a copy whose live values may be replaced: whoever holds it reads them anew each time. */
export const live = <S extends object>(resolved: S): S => (Object.isFrozen(resolved) ? { ...resolved } : resolved);

/** The numbers among such settings that may be replaced, by their names in code. */
export function liveValues(settings: object): Record<string, number> {
  const keys = Object.isFrozen(settings) ? [] : (originOf(settings)?.live ?? []);
  const values = settings as Readonly<Record<string, unknown>>;
  return Object.fromEntries(
    keys.flatMap((key) => (typeof values[key] === "number" ? [[key, values[key] as number]] : [])),
  );
}

/**
 * Checks that settings may have another value, all others as they are.
 * @throws UserError for a name that may not change, and for values that the settings would have refused
 */
export function checkLive(settings: object, key: string, value: number): void {
  if (!Object.hasOwn(liveValues(settings), key)) {
    const names = Object.keys(liveValues(settings)).map(snake);
    throw new UserError(
      `${snake(key)} does not change while a run is at work; there ${names.length === 0 ? "is nothing that does" : `may change ${inList(names)}`}`,
    );
  }
  originOf(settings)?.again({ ...settings, [key]: value });
}

const snake = (name: string): string => snakeCase(name.replaceAll("-", "_"));

/** Where a name that is none belongs: to others, or near one that is there. */
function whose(
  name: string,
  spell: SettingsSource["spell"],
  { title, table, owners }: Pick<Resolver, "title" | "table" | "owners">,
): string {
  const others = owners?.(snake(name)) ?? [];
  if (others.length > 0) {
    const shown = others.length > 4 ? [...others.slice(0, 3), "others"] : others;
    return ` for ${title}: it is an option of ${inList(shown)}`;
  }
  const flag = spell(name).startsWith("--") ? (known: string) => `--${known}` : undefined;
  const names = (aka: boolean) => allNames(table, /[A-Z]/.test(name), aka);
  return didYouMean(name, names(false), flag) || didYouMean(name, names(true), flag);
}

const inList = (names: readonly string[]): string =>
  names.length === 1 ? names[0] : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

const inWords = (value: unknown): string =>
  typeof value === "number" || value === undefined ? String(value) : (JSON.stringify(value) ?? typeof value);

function* allNames(table: SettingsTable, camel: boolean, others: boolean): Iterable<string> {
  for (const [key, { aka }] of Object.entries(table)) {
    if (others) yield* aka ?? [];
    else yield camel ? key : snakeCase(key);
  }
}
