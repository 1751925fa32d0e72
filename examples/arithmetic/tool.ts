/**
 * The word problems with a calculator, as an environment of one's own: the policy calls it step by step and says what it gave.
 *
 *     webrlhf grpo --environment ./examples/arithmetic/tool.ts --dataset_name ./examples/arithmetic/problems.ts ...
 */
import { toolEnvironment } from "webrlhf/rlhf";

export default toolEnvironment({
  name: "arithmetic",
  best: 1,
  tools: [
    {
      name: "sum",
      description: "Adds two whole numbers, or takes one from the other",
      parameters: { type: "object", properties: { of: { type: "string", description: "such as 7 + 5" } } },
      run({ of }) {
        const [, a, sign, b] = /^ *(\d{1,3}) ([+-]) (\d{1,3}) *$/.exec(String(of)) ?? [];
        return sign ? String(Number(a) + Number(`${sign}${b}`)) : "none";
      },
    },
  ],
  reward: (answer, row) => Number(answer.trim() === String(row.answer)),
});
