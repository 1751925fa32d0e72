/** A setting: everything that is known of one option, written once. Flags, YAML keys, checks, help and types follow from it. */

/** What values a setting takes. */
export type Kind = "text" | "path" | "int" | "float" | "bool" | "choice" | "list" | "numbers" | "mixture";

/** A default that is known only when other settings are: by dialect, or from their values. */
export class Later<T> {
  /** For `--help`: "0.02; trl: 0.05". */
  readonly words: string;
  /** Whether null, "not set", is among the values. */
  readonly nullable: boolean;
  readonly value: (values: Readonly<Record<string, unknown>>, dialect: string | null) => T;

  constructor(value: Later<T>["value"], words: string, nullable: boolean) {
    this.value = value;
    this.words = words;
    this.nullable = nullable;
  }
}

/** A default by dialect; those that are not listed have the first one's. */
export function byDialect<const T extends string | number | boolean | null>(
  values: Readonly<Record<string, T>>,
): Later<T> {
  const [[, base], ...others] = Object.entries(values);
  const shown = (value: T) => (value === null ? "none" : String(value));
  const words = [shown(base), ...others.map(([dialect, value]) => `${dialect}: ${shown(value)}`)].join("; ");
  const of = (dialect: string | null) => (dialect !== null && Object.hasOwn(values, dialect) ? values[dialect] : base);
  return new Later((_, dialect) => of(dialect), words, Object.values(values).includes(null as T));
}

/**
 * A default that follows from the other settings of the record.
 * @param words say what it is, for `--help`
 */
export const derived = <T, V extends object>(
  value: (values: Readonly<V>, dialect: string | null) => T,
  words: string,
  nullable = false,
): Later<T> => new Later(value as unknown as Later<T>["value"], words, nullable);

/** One option of a trainer or a verb. */
export interface Setting<T = unknown> {
  readonly kind: Kind;
  /** Used when nothing sets it; null means "not set". */
  readonly default: T | Later<T>;
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
  /** Foreign spellings that mean the same, in snake_case. */
  readonly aka?: readonly string[];
}

/** Settings by their camelCase names. */
export type Table = Readonly<Record<string, Setting>>;

/** The values of a table's settings. */
export type Values<T extends Table> = { readonly [K in keyof T]: T[K] extends Setting<infer V> ? V : never };

type More = Partial<Pick<Setting, "min" | "max" | "exclusiveMin" | "required" | "aka">>;
/** null alone, or the kind's own values, or both; a literal is no type of its own. */
type Wide<T, D> = null extends D ? T | null : T;

/** A builder of settings that share a heading: `const optim = group("Optimisation")`, then `optim.int(8, "...")`. */
export function group(heading: string) {
  const make =
    <T>(kind: Kind) =>
    <D extends T | null>(value: D | Later<D>, help: string, more: More = {}): Setting<Wide<T, D>> => ({
      kind,
      default: value as Wide<T, D>,
      help,
      group: heading,
      ...more,
    });
  return {
    text: make<string>("text"),
    path: make<string>("path"),
    int: make<number>("int"),
    float: make<number>("float"),
    bool: make<boolean>("bool"),
    list: make<readonly string[]>("list"),
    numbers: make<readonly number[]>("numbers"),
    /** A dataset or a mixture: text, or in YAML a map of names to proportions, which becomes that text. */
    mixture: make<string>("mixture"),
    choice: <const C extends string>(
      choices: readonly C[],
      value: NoInfer<C> | Later<NoInfer<C>>,
      help: string,
      more: More = {},
    ): Setting<C> => ({ kind: "choice", default: value, help, group: heading, choices, ...more }),
    /** One of the choices, or none, which is the default. */
    maybeChoice: <const C extends string>(choices: readonly C[], help: string, more: More = {}): Setting<C | null> => ({
      kind: "choice",
      default: null,
      help,
      group: heading,
      choices,
      ...more,
    }),
  };
}

/** Whether null, "not set", is a value of the setting. */
export const nullable = (setting: Setting): boolean =>
  setting.default instanceof Later ? setting.default.nullable : setting.default === null;

/** `klCoef` is `kl_coef` on the command line and in YAML. */
export const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** `kl_coef` and `kl-coef` are `klCoef` in code. */
export const camelCase = (name: string): string =>
  name.replace(/[-_]+([a-z0-9])/gi, (_, letter: string) => letter.toUpperCase());

/** The default in words, for `--help` and tables; null where there is none. */
export function defaultWords(setting: Setting): string | null {
  const { default: value } = setting;
  if (setting.required || value === null || (Array.isArray(value) && value.length === 0)) return null;
  if (value instanceof Later) return value.words;
  return Array.isArray(value) ? value.join(",") : String(value);
}
