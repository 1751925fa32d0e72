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
const rows = [...page.matchAll(/^\| (\w+) \| (\w+) \| (\S+) \| (\S+) \|$/gm)].filter(([, verb]) => verb in theirs);
const camel = (name: string): string =>
  name === "max_completion_length"
    ? "responseLength"
    : name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

describe("defaults that differ from TRL's", () => {
  it.each(rows.map(([, ...row]) => row))("%s %s: %s there, %s here", (verb, setting, there, here) => {
    expect(JSON.stringify(theirs[verb][setting])).toBe(there);
    expect(JSON.stringify(ours[verb][camel(setting)])).toBe(here);
  });

  it("are in the table", () => expect(rows).toHaveLength(8));
});
