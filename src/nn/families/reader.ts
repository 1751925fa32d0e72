/** Reads config.json strictly: what is missing, mistyped or not supported is an error that names the field. */
import { UserError } from "../../runtime/errors.ts";
import { type Activation, MAX_LAYERS } from "../config.ts";

const activations: Record<string, Activation> = {
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  silu: "silu",
  swish: "silu",
  relu: "relu",
};

/** The name of an activation in config.json. */
export const activationName = (activation: Activation): string =>
  activation === "gelu_tanh" ? "gelu_pytorch_tanh" : activation;

/** A config.json, or an object inside one, whose fields are read strictly. */
export class ConfigReader {
  readonly json: Readonly<Record<string, unknown>>;
  private readonly file: string;
  private readonly fields: Readonly<Record<string, unknown>>;
  /** Fields that were looked at. */
  private readonly read = new Set<string>();

  constructor(json: Readonly<Record<string, unknown>>, file: string) {
    const { read } = this;
    this.fields = json;
    this.json = new Proxy(json, {
      get(fields, key) {
        if (typeof key === "string") read.add(key);
        return Object.hasOwn(fields, key) ? fields[key as string] : undefined;
      },
    });
    this.file = file;
  }

  /** Refuses fields that nobody looked at and that may change what the model computes. What is off or absent changes nothing. */
  refuseUnread(isHarmless: (key: string) => boolean): void {
    for (const [key, value] of Object.entries(this.fields)) {
      if (this.read.has(key) || value === null || value === false || isHarmless(key)) continue;
      this.fail(
        `${key} = ${String(JSON.stringify(value)).slice(0, 60)} is not known, and it may change what the model computes; ` +
          "take the field out if it does not",
      );
    }
  }

  /** Two fields say different things; which of them counts has changed from release to release of transformers. */
  contradiction(key: string, other: string): never {
    const said = (name: string) => `${name} = ${String(JSON.stringify(this.json[name])).slice(0, 80)}`;
    if (this.has(other)) this.fail(`${said(key)} contradicts ${said(other)}; take out the one that does not hold`);
    this.fail(`${said(key)} counts in some releases of transformers only; say so by ${other}`);
  }

  fail(what: string): never {
    throw new UserError(`${this.file}: ${what}`);
  }

  has(key: string): boolean {
    return this.json[key] !== undefined && this.json[key] !== null;
  }

  /** A number that may stand under several keys; where it stands twice, it must be the same. */
  number(...keys: string[]): number {
    const [key, ...more] = keys.filter((k) => this.has(k)); // all are looked at: none of them is unknown
    if (key === undefined) this.fail(`${keys[0]} is missing`);
    const value = this.json[key];
    for (const other of more) if (this.json[other] !== value) this.contradiction(key, other);
    if (typeof value !== "number" || !Number.isFinite(value)) this.fail(`${key} must be a number`);
    return value;
  }

  /** The number of layers, which lists have entries for. */
  layers(...keys: string[]): number {
    const value = this.number(...keys);
    if (!Number.isInteger(value) || value < 1 || value > MAX_LAYERS) {
      this.fail(`${keys[0]} must be a whole number from 1 to ${MAX_LAYERS}, not ${value}`);
    }
    return value;
  }

  optional<T>(key: string, fallback: T): number | T {
    return this.has(key) ? this.number(key) : fallback;
  }

  /** A number, or null where the file says null; absent is another thing. */
  nullable(key: string, absent: number | null): number | null {
    return this.json[key] === undefined ? absent : this.optional(key, null);
  }

  flag(key: string, fallback: boolean): boolean {
    if (!this.has(key)) return fallback;
    const value = this.json[key];
    if (typeof value !== "boolean") this.fail(`${key} must be true or false`);
    return value;
  }

  /** A list with one entry per layer, or null. `most`: entries beyond are dropped. */
  list(key: string, layers: number, most = layers): readonly unknown[] | null {
    if (!this.has(key)) return null;
    const value = this.json[key];
    if (!Array.isArray(value)) this.fail(`${key} must be a list`);
    if (value.length < layers) this.fail(`${key} has ${value.length} entries for ${layers} layers`);
    return value.slice(0, most);
  }

  object(key: string): Readonly<Record<string, unknown>> | null {
    if (!this.has(key)) return null;
    const value = this.json[key];
    if (typeof value !== "object" || Array.isArray(value)) this.fail(`${key} must be an object`);
    return value as Record<string, unknown>;
  }

  /** Another object of the same file, for messages that name its place. */
  inside(key: string, json: Readonly<Record<string, unknown>>): ConfigReader {
    return new ConfigReader(json, `${this.file}: ${key}`);
  }

  /** Fields that published files of this family have, and that its model does not look at. */
  ignore(...keys: string[]): void {
    for (const key of keys) this.read.add(key);
  }

  /** Refuses a field whose value is none of those that are computed here; absent is fine. */
  only(key: string, ...allowed: unknown[]): void {
    const value = this.json[key];
    if (value === undefined || value === null || allowed.includes(value)) return;
    const list = allowed.length === 0 ? "null" : allowed.map((a) => JSON.stringify(a)).join(", ");
    this.fail(`${key} = ${JSON.stringify(value)} is not supported (only ${list})`);
  }

  activation(key: string, fallback: string): Activation {
    const value = this.has(key) ? this.json[key] : fallback;
    const known = typeof value === "string" && Object.hasOwn(activations, value) ? activations[value] : null;
    if (known) return known;
    this.fail(
      `${key} = ${JSON.stringify(value)} is not supported (only ${Object.keys(activations)
        .map((a) => JSON.stringify(a))
        .join(", ")})`,
    );
  }

  /** Which layers slide: `layer_types` where it is given, else `fallback` by layer. */
  slidingLayers(layers: number, fallback: (layer: number) => boolean): boolean[] {
    const types = this.list("layer_types", layers);
    if (!types) return Array.from({ length: layers }, (_, i) => fallback(i));
    return types.map((type) => {
      if (type === "sliding_attention") return true;
      if (type === "full_attention") return false;
      return this.fail(
        `layer_types has ${JSON.stringify(type)}, which is not supported (only "full_attention", "sliding_attention")`,
      );
    });
  }

  /** Token ids; old files write -1 for none. */
  ids(key: string): number[] {
    const value = this.json[key];
    const list = Array.isArray(value) ? value : value === undefined || value === null ? [] : [value];
    for (const id of list) if (!Number.isInteger(id)) this.fail(`${key} must be a token id`);
    return (list as number[]).filter((id) => id >= 0).map((id) => id + 0); // JSON knows a -0
  }
}
