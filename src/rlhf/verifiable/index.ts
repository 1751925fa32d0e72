/**
 * Rewards that a program can verify, by name: `builtin:accuracy`, or with parameters `builtin:numeric?tolerance=0.01&column=total`.
 * Each sees the response, and the dataset's row with its columns.
 */
import * as v from "valibot";
import { environment } from "../../runtime/environment.ts";
import { isUserError, UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { inParallel } from "../../runtime/in-parallel.ts";
import { readText } from "../../runtime/json-files.ts";
import { overlongPenalty } from "../overlong.ts";
import type { RewardFunction } from "../rewards.ts";
import type { Response } from "../sampler.ts";
import { boxed, lastFormula, lastNumber, markedAnswer, plain } from "./answers.ts";
import { programIn, Sandbox, sandboxes, testsIn } from "./code.ts";
import { fitsSchema, jsonAnswer } from "./json.ts";
import { inLanguage } from "./language.ts";
import { sameMaths } from "./maths.ts";
import { cosineScaled, repetitionPenalty, responseLength, tagCount, thinkFormat } from "./shape.ts";

/** How such rewards are spelled. */
export const BUILTIN = "builtin:";

interface Builtin<S extends v.ObjectEntries = v.ObjectEntries> {
  /** What it rewards, in one line. */
  does: string;
  /** Its parameters: texts are read into these. */
  parameters: S;
  make(parameters: v.InferOutput<v.ObjectSchema<S, undefined>>, name: string): RewardFunction | Promise<RewardFunction>;
}

const builtin = <S extends v.ObjectEntries>(one: Builtin<S>): Builtin => one as unknown as Builtin;

const number = (fallback: string) =>
  v.optional(v.pipe(v.string(), v.regex(/^[-+]?[\d.]+(e[-+]?\d+)?$/i, "a number"), v.transform(Number)), fallback);
const needed = v.pipe(v.string(), v.regex(/^\d+$/, "a whole number"), v.transform(Number));
const whole = (fallback: string) => v.optional(needed, fallback);
const column = (fallback: string) => v.optional(v.pipe(v.string(), v.minLength(1)), fallback);
const names = v.pipe(
  v.string(),
  v.transform((text) => text.split("+")),
);

const each =
  (score: (response: Response) => number): RewardFunction =>
  async (responses) =>
    responses.map(score);

/** The value of a row's column as text. Throws a UserError where the row lacks it. */
function columnOf({ row, promptText }: Response, column: string, name: string): string {
  const value = row?.[column];
  if (
    typeof value === "string" ||
    typeof value === "number" ||
    typeof value === "bigint" ||
    typeof value === "boolean"
  ) {
    return String(value);
  }
  const there = Object.keys(row ?? {}).join(", ") || "none";
  throw new UserError(
    `${name}: the row of the prompt ${JSON.stringify(promptText.slice(0, 80))} has no text or number in the column "${column}" ` +
      `(its columns: ${there}); name the column with the answer: ${name.split("?")[0]}?column=NAME`,
  );
}

/** What a row says is right: GSM8K's solutions end with their answer after `####`, others' with a box. */
const goldOf = (text: string): string => (boxed(text) ?? /####\s*([^\n]+)\s*$/.exec(text)?.[1] ?? text).trim();

/** Whether a response's answer is the row's, as an expression. */
function isRight(response: Response, column: string, name: string): boolean {
  const gold = goldOf(columnOf(response, column, name));
  const answer = markedAnswer(response.text) ?? lastFormula(response.text);
  return answer !== null && sameMaths(answer, gold);
}

/** Reasoning is no answer. */
const afterThinking = (text: string): string =>
  text.includes("</think>") ? text.slice(text.lastIndexOf("</think>") + 8) : "";

/** Programs that a sandbox runs at a time. */
const AT_ONCE = 4;

async function fileOf(path: string, name: string): Promise<string> {
  const text = await readText(await diskFiles(), path);
  if (text !== null) return text;
  throw new UserError(`${name}: cannot read ${path}: no such file`);
}

/** @param given a schema, or its text */
async function schemaOf(given: unknown, where: string) {
  try {
    return await fitsSchema(typeof given === "string" ? JSON.parse(given) : given);
  } catch (cause) {
    throw new UserError(`${where} is no JSON Schema: ${(cause as Error).message}`, { cause });
  }
}

const builtins: Record<string, Builtin> = {
  accuracy: builtin({
    does: "1 where the marked answer (box, <answer>, ####, formula) means what the column says, as a mathematical expression",
    parameters: { column: column("solution") },
    make: ({ column }, name) => each((one) => Number(isRight(one, column, name))),
  }),
  reasoning_accuracy: builtin({
    does: "accuracy of what stands after </think>",
    parameters: { column: column("solution") },
    make: ({ column }, name) => each((one) => Number(isRight({ ...one, text: afterThinking(one.text) }, column, name))),
  }),
  cosine_scaled: builtin({
    does: "accuracy on a cosine of the length: short and right is best, short and wrong is worst",
    parameters: {
      max_len: needed,
      column: column("solution"),
      min_wrong: number("-1"),
      max_wrong: number("-0.5"),
      min_correct: number("0.5"),
      max_correct: number("1"),
    },
    make: ({ column, ...o }, name) => each((one) => cosineScaled(isRight(one, column, name), responseLength(one), o)),
  }),
  numeric: builtin({
    does: "1 where the last number of the answer is the column's, within a tolerance (absolute, or relative for numbers above 1)",
    parameters: { column: column("answer"), tolerance: number("1e-6") },
    make: ({ column, tolerance }, name) =>
      each((one) => {
        const told = columnOf(one, column, name);
        const gold = lastNumber(goldOf(told));
        if (gold === null) throw new UserError(`${name}: "${told}" in the column "${column}" is no number`);
        const found = lastNumber(markedAnswer(one.text) ?? one.text);
        return Number(found !== null && Math.abs(found - gold) <= tolerance * Math.max(1, Math.abs(gold)));
      }),
  }),
  exact: builtin({
    does: "1 where the answer is the column's text; case, spaces and a full stop do not count",
    parameters: { column: column("answer") },
    make: ({ column }, name) =>
      each((one) => {
        const gold = plain(goldOf(columnOf(one, column, name)));
        return Number(plain(one.text) === gold || plain(markedAnswer(one.text) ?? "") === gold);
      }),
  }),
  think_format: builtin({
    does: "1 where the response begins with reasoning between <think> and </think>",
    parameters: {},
    make: () => each(({ text }) => thinkFormat(text)),
  }),
  tag_count: builtin({
    does: "the part of the tags, opening and closing, that stand exactly once",
    parameters: { tags: v.optional(names, "think+answer") },
    make: ({ tags }) => each(({ text }) => tagCount(text, tags)),
  }),
  regex: builtin({
    does: "1 where the pattern matches",
    parameters: {
      pattern: v.string(),
      flags: v.optional(v.pipe(v.string(), v.regex(/^[imsu]*$/, "of i, m, s, u")), ""),
    },
    make: ({ pattern, flags }, name) => {
      let expression: RegExp;
      try {
        expression = new RegExp(pattern, flags);
      } catch (cause) {
        throw new UserError(`${name}: ${(cause as Error).message}`, { cause });
      }
      return each(({ text }) => Number(expression.test(text)));
    },
  }),
  json: builtin({
    does: "1 where the answer is JSON: all of it, or its last fenced block",
    parameters: {},
    make: () => each(({ text }) => Number(jsonAnswer(text) !== undefined)),
  }),
  json_schema: builtin({
    does: "1 where the answer is JSON that fits a schema, from a file or from a column of the row",
    parameters: { schema: v.optional(v.pipe(v.string(), v.minLength(1))), column: v.optional(v.string()) },
    async make({ schema, column }, name) {
      if ((schema === undefined) === (column === undefined)) {
        throw new UserError(`${name}: give the schema's file as schema=FILE, or the column that has it as column=NAME`);
      }
      if (schema !== undefined) {
        const fits = await schemaOf(await fileOf(schema, name), `${name}: ${schema}`);
        return each(({ text }) => Number(fits(jsonAnswer(text))));
      }
      return async (responses) =>
        Promise.all(
          responses.map(async (one) => {
            const own = one.row?.[column as string];
            const given = typeof own === "object" && own !== null ? own : columnOf(one, column as string, name);
            const fits = await schemaOf(given, `${name}: the column "${column}"`);
            return Number(fits(jsonAnswer(one.text)));
          }),
        );
    },
  }),
  code: builtin({
    does: "the part of the row's tests that the response's program passes, run by a sandbox's server",
    parameters: {
      sandbox: v.pipe(v.string(), v.regex(/^https?:\/\//, "the address of a sandbox (http://...)")),
      format: v.optional(v.picklist(sandboxes, sandboxes.join(" or ")), "piston"),
      language: v.optional(v.string(), "python"),
      column: column("tests"),
      timeout: number("10"),
    },
    make({ column, ...o }, name) {
      const sandbox = new Sandbox(o, environment("CODE_SANDBOX_API_KEY") ?? null);
      const reward: RewardFunction = async (responses) => {
        const judged = responses.map((one) => {
          const given = one.row?.[column];
          try {
            return {
              program: programIn(one.text, o.language),
              tests: testsIn(typeof given === "object" && given !== null ? given : columnOf(one, column, name)),
            };
          } catch (cause) {
            if (isUserError(cause)) throw cause;
            throw new UserError(`${name}: the column "${column}": ${(cause as Error).message}`, { cause });
          }
        });
        const scores = new Float64Array(responses.length);
        await inParallel(judged, AT_ONCE, async ({ program, tests }, place) => {
          if (program !== null) scores[place] = await sandbox.passed(program, tests);
        });
        return scores;
      };
      reward.remote = true;
      return reward;
    },
  }),
  language: builtin({
    does: "1 where the response is in the language, or one of them; code and formulas are in none",
    parameters: { is: names, among: v.optional(names) },
    async make({ is, among = null }, name) {
      try {
        const spoken = await inLanguage(is, among);
        return each(({ text }) => Number(spoken(text)));
      } catch (error) {
        throw new UserError(`${name}: ${(error as Error).message}`, { cause: error });
      }
    },
  }),
  length: builtin({
    does: "0 where the response has from min to max tokens, -1 otherwise",
    parameters: { min: whole("0"), max: needed },
    make: ({ min, max }) => each((one) => (responseLength(one) < min || responseLength(one) > max ? -1 : 0)),
  }),
  soft_overlong: builtin({
    does: "0 up to max - cache tokens, falling in a straight line to -1 at max (DAPO)",
    parameters: { max: needed, cache: needed },
    make({ max, cache }, name) {
      if (cache > max) throw new UserError(`${name}: cache ${cache} is more than max ${max}`);
      return overlongPenalty(max, cache);
    },
  }),
  repetition_penalty: builtin({
    does: "0 where no n-gram of tokens comes twice, towards max_penalty for one again and again",
    parameters: { n: whole("3"), max_penalty: number("-1") },
    make: ({ n, max_penalty }, name) => {
      if (n < 1) throw new UserError(`${name}: n must be 1 or more`);
      if (max_penalty > 0) throw new UserError(`${name}: max_penalty ${max_penalty} must not be above 0`);
      return each(({ ids, promptLength }) => repetitionPenalty(ids.slice(promptLength), n, max_penalty));
    },
  }),
};

/** Names of the rewards that can be verified, with what each does and its parameters. */
export const verifiableRewards: readonly { name: string; does: string; parameters: readonly string[] }[] =
  Object.entries(builtins).map(([name, { does, parameters }]) => ({
    name: BUILTIN + name,
    does,
    parameters: Object.keys(parameters),
  }));

/**
 * Makes a reward by its spelling, e.g. `builtin:numeric?tolerance=0.01`.
 * @throws UserError for an unknown reward or parameter, a value that is none, and a schema's file that cannot be read
 */
export async function verifiableReward(spelling: string): Promise<RewardFunction> {
  const [called, query = ""] = spelling.slice(BUILTIN.length).split(/\?(.*)/s);
  const found = Object.hasOwn(builtins, called) ? builtins[called] : undefined;
  if (!spelling.startsWith(BUILTIN) || !found) {
    const known = Object.keys(builtins).join(", ");
    throw new UserError(`${spelling} is no reward: after ${BUILTIN} there are ${known}`);
  }
  const given: Record<string, string> = {};
  for (const pair of query.split("&").filter(Boolean)) {
    const [key, value] = pair.split(/=(.*)/s);
    if (!Object.hasOwn(found.parameters, key) || value === undefined) {
      const known = Object.keys(found.parameters);
      throw new UserError(
        `${spelling}: ${BUILTIN}${called} has ${known.length > 0 ? `the parameters ${known.join(", ")}` : "no parameters"}, and not ` +
          `"${pair}"; they are spelled ?name=value&name=value`,
      );
    }
    given[key] = decoded(value);
  }
  const read = v.safeParse(v.object(found.parameters), given);
  if (!read.success) {
    const [{ path, message }] = read.issues;
    const key = String(path?.[0]?.key);
    const why = given[key] === undefined ? "is needed" : `is ${message}, not "${given[key]}"`;
    throw new UserError(`${spelling}: ${key} ${why}`);
  }
  const reward = await found.make(read.output, spelling);
  Object.defineProperty(reward, "name", { value: called });
  return reward;
}

/** %XX stands for a character that would otherwise part a list or the parameters. */
function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value; // a regular expression with a % of its own
  }
}
