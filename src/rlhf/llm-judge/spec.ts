/** The settings of an LLM judge, as its file has them. */
import * as v from "valibot";
import { isPrivate, serverUrl } from "../../io/http.ts";
import { UserError } from "../../runtime/errors.ts";

/** Something that an LLM judge grades an answer by, and how much it counts. */
export interface Criterion {
  name: string;
  /** In words, for the judge. */
  description: string;
  /** Its part in the weighted mean. Default 1. */
  weight: number;
}

/** A judge: a language model on a server with OpenAI's interface, what it is asked, and how. */
export interface JudgeSpec {
  /** The server, with or without /v1. */
  url: string;
  /** The model's name there. */
  model: string;
  /** The environment variable that holds the server's key; null sends none. */
  apiKeyEnv: string | null;
  /** A number for each answer, or the better of two. Default "pointwise". */
  mode: "pointwise" | "pairwise";
  criteria: readonly Criterion[];
  /** The lowest and the highest number that a criterion may get. Default [1, 10]. */
  scale: readonly [low: number, high: number];
  /** How the judge answers: JSON, or a last line in words. Default "json". */
  answer: "json" | "last_line";
  /** Sends the answer's JSON Schema as `response_format`, which servers that know it hold the model to. Default false. */
  schema: boolean;
  /** The system's message; null is the built-in one. */
  system: string | null;
  /** The user's message, with places such as {response}; null is the built-in one. */
  prompt: string | null;
  /** The column of the dataset's row with an answer to compare with; null shows none. */
  reference: string | null;
  /** Default 0. */
  temperature: number;
  /** Tokens of the judge's answer, reasons included. Default 1024. */
  maxTokens: number;
  /** More fields of the request, such as seed or top_p. */
  request: Readonly<Record<string, unknown>>;
  /** Requests under way at once. Default 8. */
  concurrency: number;
  /** Seconds to wait for an answer. Default 120. */
  timeout: number;
  /** Tries after the first when the server is away, busy (429) or broken (5xx). Default 4. */
  retries: number;
  /** How often a question is asked whose answer cannot be read. Default 2. */
  attempts: number;
  /** The file in which answers are kept; null is one beside the judge's own file. */
  cache: string | null;
}

const text = v.pipe(v.string(), v.minLength(1, "must not be empty"));
const whole = (least: number) => v.pipe(v.number(), v.integer(), v.minValue(least));
/** Names stand in JSON and in lines "name: number". */
const criterionName = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z][\w -]{0,63}$/, "must be letters, digits, spaces, - and _, 64 at most"),
);

const shape = v.strictObject({
  url: text,
  model: text,
  api_key_env: v.optional(v.nullable(v.pipe(v.string(), v.regex(/^[A-Za-z_]\w*$/, "must name a variable"))), null),
  mode: v.optional(v.picklist(["pointwise", "pairwise"]), "pointwise"),
  criteria: v.pipe(
    v.array(
      v.strictObject({
        name: criterionName,
        description: text,
        weight: v.optional(v.pipe(v.number(), v.finite(), v.gtValue(0)), 1),
      }),
    ),
    v.minLength(1, "must hold one criterion or more"),
    v.maxLength(32, "must not hold more than 32 criteria"),
  ),
  scale: v.optional(v.tuple([v.pipe(v.number(), v.finite()), v.pipe(v.number(), v.finite())]), [1, 10]),
  answer: v.optional(v.picklist(["json", "last_line"]), "json"),
  schema: v.optional(v.boolean(), false),
  system: v.optional(v.nullable(text), null),
  prompt: v.optional(v.nullable(text), null),
  reference: v.optional(v.nullable(text), null),
  temperature: v.optional(v.pipe(v.number(), v.finite(), v.minValue(0)), 0),
  max_tokens: v.optional(whole(1), 1024),
  request: v.optional(v.record(v.string(), v.unknown()), {}),
  concurrency: v.optional(v.pipe(whole(1), v.maxValue(256)), 8),
  timeout: v.optional(v.pipe(v.number(), v.finite(), v.gtValue(0)), 120),
  retries: v.optional(v.pipe(whole(0), v.maxValue(20)), 4),
  attempts: v.optional(v.pipe(whole(1), v.maxValue(10)), 2),
  cache: v.optional(v.nullable(text), null),
});

/** Fields of the request that the file has other names for, or that would break the answer. */
const OWN = ["model", "messages", "n", "stream", "temperature", "max_tokens", "response_format"];

/**
 * Reads the settings of a judge, as YAML or JSON has them (snake_case).
 * @param path the file, for messages
 * @throws UserError naming file and field
 */
export function judgeSpec(values: unknown, path: string): JudgeSpec {
  const wrong = (what: string) => new UserError(`${path}: ${what}`);
  if (typeof values === "object" && values !== null && "api_key" in values) {
    throw wrong(
      "api_key: a key does not belong into a file: name the environment variable that holds it, as api_key_env",
    );
  }
  const read = v.safeParse(shape, values);
  if (!read.success) throw wrong(complaint(read.issues[0]));
  const { api_key_env: apiKeyEnv, max_tokens: maxTokens, url, ...rest } = read.output;
  const own = OWN.find((name) => Object.hasOwn(rest.request, name));
  if (own !== undefined) throw wrong(`request: ${own} is not for request: the file has a field of its own for it`);
  if (rest.scale[0] >= rest.scale[1]) throw wrong(`scale: ${rest.scale.join(", ")} must go from low to high`);
  const names = rest.criteria.map(({ name }) => name.toLowerCase());
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined) throw wrong(`criteria: "${twice}" stands there twice`);
  if (rest.schema && rest.answer !== "json") throw wrong("schema: belongs to answer: json, and this is last_line");
  if (apiKeyEnv !== null && !isPrivate(serverUrl(url))) {
    throw wrong(`url: ${url} would get the key of ${apiKeyEnv} for everybody on the way to read: use https`);
  }
  const spec = { ...rest, url, apiKeyEnv, maxTokens };
  checkPlaces(spec, wrong);
  return spec;
}

/** Places of a prompt of one's own, and those that it must have. */
export const placesOf = ({ mode, reference }: Pick<JudgeSpec, "mode" | "reference">) => {
  const answers = mode === "pointwise" ? ["response"] : ["response_a", "response_b"];
  return {
    needed: ["prompt", ...answers, ...(reference === null ? [] : ["reference"])],
    known: ["prompt", ...answers, "criteria", "low", "high", "format", ...(reference === null ? [] : ["reference"])],
  };
};

/** A place in a prompt: {response}. */
export const PLACE = /\{([a-z_]+)\}/g;

function checkPlaces(spec: JudgeSpec, wrong: (what: string) => UserError): void {
  if (spec.prompt === null) return;
  const { needed, known } = placesOf(spec);
  const used = [...spec.prompt.matchAll(PLACE)].map(([, name]) => name);
  const strange = used.find((name) => !known.includes(name));
  if (strange !== undefined) {
    throw wrong(`prompt: {${strange}} is no place here; there are ${known.map((name) => `{${name}}`).join(", ")}`);
  }
  const missing = needed.find((name) => !used.includes(name));
  if (missing !== undefined) throw wrong(`prompt: {${missing}} is missing: the judge would not see it`);
}

function complaint(issue: v.BaseIssue<unknown>): string {
  const place = (issue.path ?? []).map(({ key }) => String(key)).join(".");
  const what =
    issue.type === "strict_object" && issue.expected === "never"
      ? "is no field of a judge's file"
      : issue.received === "undefined"
        ? "is missing"
        : /^(must|a )/.test(issue.message)
          ? issue.message
          : `must be ${issue.expected ?? "of another kind"}, not ${issue.received}`;
  return place === "" ? "must hold a judge's fields: url, model and criteria" : `${place}: ${what}`;
}
