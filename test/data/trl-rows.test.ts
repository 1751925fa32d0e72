import { describe, expect, it } from "vitest";
import type { Tokenizer } from "webrlhf/data";
import { openDataset } from "webrlhf/open";
import fixture from "../fixtures/trl.json" with { type: "json" };
import { openKind } from "./kinds.ts";

interface Result {
  ids?: number[];
  learned?: number[];
  prompt?: number[];
  chosen?: number[];
  rejected?: number[];
  completion?: number[];
  label?: boolean;
}
interface Kind {
  kind: string;
  special: Record<string, string>;
  template: string | null;
  cases: { name: string; limit: number | null; rows: Record<string, unknown>[]; result: Result[] }[];
}
const kinds = fixture.rows as unknown as Kind[];

/** What webrlhf makes of the rows, in the fixture's words. */
async function made(name: string, rows: Record<string, unknown>[], tokenizer: Tokenizer, limit: number | null) {
  const data = openDataset(rows, { longPrompts: "skip" });
  const maxLength = limit ?? 512;
  if (name.startsWith("sft")) {
    const { train } = await data.sequences(tokenizer, {
      maxLength,
      assistantOnlyLoss: name.endsWith("assistant only"),
    });
    return train.map(({ ids, promptLength, learned }) => ({
      ids: [...ids],
      learned: Array.from(ids, (_, t) => (t < promptLength ? 0 : (learned?.[t] ?? 1))),
    }));
  }
  if (name.startsWith("kto")) {
    return (await data.labelled(tokenizer, { maxLength })).train.map(({ ids, promptLength, label }) => ({
      prompt: [...ids.subarray(0, promptLength)],
      completion: [...ids.subarray(promptLength)],
      label,
    }));
  }
  const { train } = await data.pairs(tokenizer, { maxLength: 512 });
  if (name.startsWith("dpo")) {
    return train.map(({ chosen, rejected, promptLength }) => ({
      prompt: [...chosen.subarray(0, promptLength)],
      chosen: [...chosen.subarray(promptLength)],
      rejected: [...rejected.subarray(promptLength)],
    }));
  }
  const short = train.filter((pair) => Math.max(pair.chosen.length, pair.rejected.length) <= maxLength);
  return short.map(({ chosen, rejected }) => ({ chosen: [...chosen], rejected: [...rejected] }));
}

/**
 * Running text that is too long goes on in a further sequence here, where TRL drops its end. What the assistant says ends
 * with all that the template writes after it; TRL takes a template of its own for Qwen, which begins and ends otherwise.
 */
const isCompared = ({ name, limit }: Kind["cases"][number], kind: string) =>
  !(name === "sft text" && limit !== null) && !(kind === "qwen2" && name.endsWith("assistant only"));

/** The first token of a sequence is never predicted, so that it does not matter whether it is said to be learned. */
const compared = (results: Result[]) =>
  results.map((result) => (result.learned ? { ...result, learned: result.learned.slice(1) } : result));

describe.each(kinds.map((kind) => [kind.kind, kind] as const))("rows with the tokenizer kind %s", (_, kind) => {
  const opened = openKind(kind);
  it.each(kind.cases.filter((one) => isCompared(one, kind.kind)).map((one) => [one.name, one.limit, one] as const))(
    "%s, at most %s tokens",
    async (name, limit, one) => {
      const found = await made(name, one.rows, await opened, limit).catch((error: Error) => {
        if (/too long/.test(error.message)) return []; // where nothing is left of a dataset
        throw error;
      });
      expect(compared(found)).toEqual(compared(one.result));
    },
  );
});
