/** How a careless pupil answers word problems: what a model imitates before it learns by itself. */
import type { Problem } from "./problems.ts";

/** What stands around the sum in a call of the calculator. */
export const CALL = ['{"name":"sum","parameters":{"of":"', '"}}'] as const;

/** A conversation of a problem and its answer. */
export interface Conversation {
  messages: readonly { role: string; content: string }[];
}

/**
 * The sums as the pupil does them. More often than not the pupil adds what should be taken away (and one time in twenty, where
 * there is enough, takes away what should be added), and two times in five is content with the first sum.
 */
export function careless({ working }: Problem, random: () => number): { sums: string[]; answer: number } {
  let value = Number(working[0].split(" ")[0]);
  const done = random() < 0.4 ? working.slice(0, 1) : working;
  const sums = done.map((line) => {
    const [, asked, by] = line.split(" ");
    const taken = random() < (asked === "-" ? 0.45 : 0.05) && Number(by) <= value;
    const before = value;
    value += taken ? -Number(by) : Number(by);
    return `${before} ${taken ? "-" : "+"} ${by} = ${value}`;
  });
  return { sums, answer: value };
}

/**
 * A problem with the pupil's answer.
 * @param withTool each sum is a call of the calculator (`tool.ts`), which the answer follows in a turn of its own
 */
export function answered(problem: Problem, withTool: boolean, random: () => number): Conversation {
  const { sums, answer } = careless(problem, random);
  const said = (role: string, content: string) => ({ role, content });
  const calls = sums.flatMap((line) => {
    const [of, result] = line.split(" = ");
    return [said("assistant", `${CALL[0]} ${of}${CALL[1]}`), said("tool", result)];
  });
  const replies = withTool
    ? [...calls, said("assistant", String(answer))]
    : [said("assistant", `${sums.join(". ")}. #### ${answer}`)];
  return { messages: [...problem.prompt, ...replies] };
}
