/**
 * Environments by name: `builtin:guess`, or with parameters `builtin:guess?numbers=15`. They are small, their best policy is known,
 * and their rows are made by seed.
 */
import * as v from "valibot";
import { UserError } from "../../../runtime/errors.ts";
import type { Environment } from "../environment.ts";
import { calculatorEnvironment } from "./calculator.ts";
import { gridEnvironment } from "./grid.ts";
import { guessEnvironment } from "./guess.ts";
import { storyEnvironment } from "./story.ts";

const BUILTIN = "builtin:";

interface Builtin<S extends v.ObjectEntries = v.ObjectEntries> {
  /** What the policy does in it, and the best that it can reach, in one line. */
  does: string;
  /** Its parameters: texts are read into these. */
  parameters: S;
  make(parameters: v.InferOutput<v.ObjectSchema<S, undefined>>): Environment;
}

const builtin = <S extends v.ObjectEntries>(one: Builtin<S>): Builtin => one as unknown as Builtin;

const whole = (fallback: string, least: number, most: number) =>
  v.optional(
    v.pipe(
      v.string(),
      v.regex(/^\d{1,6}$/, "a whole number"),
      v.transform(Number),
      v.minValue(least, `at least ${least}`),
      v.maxValue(most, `at most ${most}`),
    ),
    fallback,
  );

const builtins: Record<string, Builtin> = {
  guess: builtin({
    does: "find a number by being told higher or lower, in as many turns as halving needs: 1",
    parameters: { numbers: whole("7", 2, 1000) },
    make: ({ numbers }) => guessEnvironment(numbers),
  }),
  calculator: builtin({
    does: "compute with a tool and say what it gave: 1",
    parameters: { digits: whole("3", 1, 6) },
    make: ({ digits }) => calculatorEnvironment(digits),
  }),
  grid: builtin({
    does: "walk to the corner of a grid of four by four, told where one stands: 1 for the shortest way",
    parameters: {},
    make: () => gridEnvironment(),
  }),
  story: builtin({
    does: "write a story of the built-in world, and once more after a critic has asked for what it lacks: 3.5",
    parameters: {},
    make: () => storyEnvironment(),
  }),
};

/** The names of the built-in environments with what one does in them and their best reward. */
export const builtinEnvironments = (): (readonly [name: string, does: string])[] =>
  Object.entries(builtins).map(([name, { does }]) => [BUILTIN + name, does]);

/**
 * A built-in environment by its name, with parameters behind a question mark.
 * @throws UserError for a name or a parameter that there is not
 */
export function builtinEnvironment(name: string): Environment {
  const [stem, query = ""] = name.slice(BUILTIN.length).split("?", 2);
  const found = name.startsWith(BUILTIN) && Object.hasOwn(builtins, stem) ? builtins[stem] : null;
  if (!found) {
    const known = builtinEnvironments().map(([known]) => known);
    throw new UserError(
      `there is no environment ${name}; there is ${known.join(", ")}, or a module of your own (./mine.ts)`,
    );
  }
  const given = Object.fromEntries(new URLSearchParams(query));
  const parsed = v.safeParse(v.strictObject(found.parameters), given);
  if (parsed.success) return found.make(parsed.output);
  const [issue] = parsed.issues;
  const parameters = Object.keys(found.parameters).join(", ") || "none";
  throw new UserError(`${name}: ${v.getDotPath(issue) ?? ""} ${issue.message} (its parameters: ${parameters})`);
}
