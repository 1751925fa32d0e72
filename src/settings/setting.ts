/** A setting: everything that is known of one option, written once. Flags, YAML keys, checks, help and types follow from it. */

import { withoutPassword } from "../runtime/printable.ts";
import type { Condition } from "./effect.ts";

/** The kind of values that a setting takes. */
export type SettingKind =
  | "text"
  | "path"
  | "switch"
  | "int"
  | "float"
  | "bool"
  | "choice"
  | "list"
  | "numbers"
  | "mixture";

/** A default that is known only when other settings are: by dialect, or from their values. */
export class DerivedDefault<T> {
  /** For `--help`: "0.02; trl: 0.05". */
  readonly words: string;
  /** Whether null, "not set", is among the values. */
  readonly nullable: boolean;
  readonly value: (values: Readonly<Record<string, unknown>>, dialect: string | null) => T;

  constructor(value: DerivedDefault<T>["value"], words: string, nullable: boolean) {
    this.value = value;
    this.words = words;
    this.nullable = nullable;
  }
}

/** A default by dialect; those that are not listed have the first one's. */
export function byDialect<const T extends string | number | boolean | null>(
  values: Readonly<Record<string, T>>,
): DerivedDefault<T> {
  const [[, base], ...others] = Object.entries(values);
  const shown = (value: T) => (value === null ? "none" : String(value));
  const words = [shown(base), ...others.map(([dialect, value]) => `${dialect}: ${shown(value)}`)].join("; ");
  const of = (dialect: string | null) => (dialect !== null && Object.hasOwn(values, dialect) ? values[dialect] : base);
  return new DerivedDefault((_, dialect) => of(dialect), words, Object.values(values).includes(null as T));
}

/**
 * A default that follows from the other settings of the record.
 * @param words say what it is, for `--help`
 */
export const derived = <T, V extends object>(
  value: (values: Readonly<V>, dialect: string | null) => T,
  words: string,
  nullable = false,
): DerivedDefault<T> => new DerivedDefault(value as unknown as DerivedDefault<T>["value"], words, nullable);

/** One option of a trainer or a verb. */
export interface Setting<T = unknown> {
  readonly kind: SettingKind;
  /** Used when nothing sets it; null means "not set". */
  readonly default: T | DerivedDefault<T>;
  /** One sentence, without its full stop. */
  readonly help: string;
  /** Heading in `--help`. */
  readonly group: string;
  readonly choices?: readonly string[];
  readonly min?: number;
  readonly max?: number;
  /** True where `min` itself is not allowed. */
  readonly exclusiveMin?: boolean;
  /** Fails when nothing sets it. */
  readonly required?: boolean;
  /** A setting that, where it is set, makes this one's `required` void; or several, of which any does. */
  readonly unless?: string | readonly string[];
  /** Foreign spellings that mean the same, in snake_case. */
  readonly aka?: readonly string[];
  /** When it has an effect; default: always. Given without effect it is a mistake. */
  readonly effect?: Condition;
  /** Its value may change between two steps of a run at work. Default false. */
  readonly live?: boolean;
  /** Marks a secret, such as a key: it is neither printed nor recorded. Names the environment variable that else holds it. */
  readonly secret?: string;
}

/** Settings by their camelCase names. */
export type SettingsTable = Readonly<Record<string, Setting>>;

/** The values of a table's settings. */
export type SettingValues<T extends SettingsTable> = {
  readonly [K in keyof T]: T[K] extends Setting<infer V> ? V : never;
};

/** Limits and foreign spellings of a setting: its parts that may be left out. */
export type SettingDetails = Partial<
  Pick<Setting, "min" | "max" | "exclusiveMin" | "required" | "aka" | "secret" | "effect" | "live">
>;
/** The type of a setting's values: those of its kind, and null where its default `D` is or may become null. */
export type SettingType<T, D> = null extends D ? T | null : T;

/** Makes a setting of one kind from its default, which may be null for "not set", and its help text. */
export type SettingMaker<T> = <D extends T | null>(
  value: D | DerivedDefault<D>,
  help: string,
  details?: SettingDetails,
) => Setting<SettingType<T, D>>;

/** Makers of settings that share a heading, one for each kind of value. */
export interface SettingGroup {
  text: SettingMaker<string>;
  path: SettingMaker<string>;
  int: SettingMaker<number>;
  float: SettingMaker<number>;
  bool: SettingMaker<boolean>;
  /** On, off, or on with a path. */
  switch: SettingMaker<boolean | string>;
  list: SettingMaker<readonly string[]>;
  numbers: SettingMaker<readonly number[]>;
  /** A dataset or a mixture: text, or in YAML a map of names to proportions, which becomes that text. */
  mixture: SettingMaker<string>;
  choice<const C extends string>(
    choices: readonly C[],
    value: NoInfer<C> | DerivedDefault<NoInfer<C>>,
    help: string,
    details?: SettingDetails,
  ): Setting<C>;
  /** One of the choices, or none, which is the default. */
  maybeChoice<const C extends string>(choices: readonly C[], help: string, details?: SettingDetails): Setting<C | null>;
}

/** A builder of settings that share a heading: `const optim = group("Optimisation")`, then `optim.int(8, "...")`. */
export function group(heading: string): SettingGroup {
  const make =
    <T>(kind: SettingKind): SettingMaker<T> =>
    <D extends T | null>(value: D | DerivedDefault<D>, help: string, details: SettingDetails = {}) => ({
      kind,
      default: value as SettingType<T, D>,
      help,
      group: heading,
      ...details,
    });
  return {
    text: make<string>("text"),
    path: make<string>("path"),
    int: make<number>("int"),
    float: make<number>("float"),
    bool: make<boolean>("bool"),
    switch: make<boolean | string>("switch"),
    list: make<readonly string[]>("list"),
    numbers: make<readonly number[]>("numbers"),
    mixture: make<string>("mixture"),
    choice: (choices, value, help, details) => ({
      kind: "choice",
      default: value,
      help,
      group: heading,
      choices,
      ...details,
    }),
    maybeChoice: (choices, help, details) => ({
      kind: "choice",
      default: null,
      help,
      group: heading,
      choices,
      ...details,
    }),
  };
}

/** Whether null, "not set", is a value of the setting. */
export const nullable = (setting: Setting): boolean =>
  setting.default instanceof DerivedDefault ? setting.default.nullable : setting.default === null;

/** Values of a table's settings less its secrets: what may be written, printed and compared. */
export const withoutSecrets = (table: SettingsTable, values: object): Record<string, unknown> => {
  const clean = (value: unknown): unknown =>
    typeof value === "string" ? withoutPassword(value) : Array.isArray(value) ? value.map(clean) : value;
  const shown = Object.entries(values).filter(([key]) => !(Object.hasOwn(table, key) && table[key].secret));
  return Object.fromEntries(shown.map(([key, value]) => [key, clean(value)]));
};

/** The default in words, for `--help` and tables; null where there is none. */
export function defaultWords(setting: Setting): string | null {
  const { default: value } = setting;
  if (setting.secret) return `the variable ${setting.secret}`;
  if (setting.required || value === null || (Array.isArray(value) && value.length === 0)) return null;
  if (value instanceof DerivedDefault) return value.words;
  return Array.isArray(value) ? value.join(",") : String(value);
}
