/** The table of docs/trl.md against TRL's configurations and webrlhf's settings. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { dpo, grpo, kto, reward, rloo, sft } from "webrlhf/rlhf";
import fixture from "../fixtures/trl.json" with { type: "json" };

const ours: Record<string, Record<string, unknown>> = {
  sft: sft({}),
  reward: reward({}),
  dpo: dpo({}),
  kto: kto({}),
  grpo: grpo({}),
  rloo: rloo({}),
};
const theirs = fixture.defaults as unknown as Record<string, Record<string, unknown>>;
const page = readFileSync(new URL("../../docs/trl.md", import.meta.url), "utf8");
const rows = [...page.matchAll(/^\| (\w+) \| (\w+) \| (\S+) \| (\S+) \|$/gm)]
  .flatMap(([, verb, ...row]) => (verb === "all" ? Object.keys(ours) : [verb]).map((one) => [one, ...row]))
  .filter(([verb]) => verb in theirs);
const camel = (name: string): string =>
  name === "max_completion_length"
    ? "responseLength"
    : name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

/** Other words for the same, or what the page says in words: how often held-out data are looked at, what null stands for. */
const inWords = [
  "max_steps: -1, null",
  'eval_strategy: "no", "steps"',
  "eval_steps: null, 0",
  "completion_only_loss: null, true",
  "center_rewards_coefficient: null, 0",
  "min_p: null, 0",
  "num_completions_to_print: null, 4",
  'optim: "adamw_torch_fused", "adamw_torch"',
];

describe("defaults that differ from TRL's", () => {
  it.each(rows)("%s %s: %s there, %s here", (verb, setting, there, here) => {
    expect(JSON.stringify(theirs[verb][setting])).toBe(there);
    expect(JSON.stringify(ours[verb][camel(setting)])).toBe(here);
  });

  it.each(Object.keys(ours))("are all in the table: %s", (verb) => {
    const differing = Object.keys(theirs[verb]).flatMap((setting) => {
      const [there, here] = [theirs[verb][setting], ours[verb][camel(setting)]].map((value) => JSON.stringify(value));
      return here === undefined || here === there || inWords.includes(`${setting}: ${there}, ${here}`) ? [] : [setting];
    });
    expect(
      rows
        .filter(([one]) => one === verb)
        .map(([, setting]) => setting)
        .sort(),
    ).toEqual(differing.sort());
  });
});
