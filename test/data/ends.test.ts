import { describe, expect, it } from "vitest";
import { openDataset } from "webrlhf/open";
import fixture from "../fixtures/ends.json" with { type: "json" };
import { openKind } from "./kinds.ts";

/** Tokenizers that have a token to begin texts with, and do not put it there: the originals' DPO does. */
const addsNone = ["gpt2", "qwen2"];
/** What a template writes after an answer, where that is not the end token alone. */
const written: Record<string, string> = { gemma: "<end_of_turn>\n", qwen2: "<|im_end|>\n" };

describe.each(fixture.kinds.map((kind) => [kind.kind, kind] as const))("with the tokenizer kind %s", (kind, given) => {
  const { talk, prompt, good, bad } = given;
  const pairOf = async (asked: typeof talk | string) => {
    const data = openDataset([{ prompt: asked, chosen: good, rejected: bad }]);
    return (await data.pairs(await openKind(given), { maxLength: 512 })).train[0];
  };

  it("pairs with a prompt in text are Online-RLHF's", async () => {
    const begun = addsNone.includes(kind) ? 1 : 0;
    const pair = await pairOf(prompt);
    expect([...pair.chosen]).toEqual(given.pair.chosen.slice(begun));
    expect([...pair.rejected]).toEqual(given.pair.rejected.slice(begun));
    expect(pair.promptLength).toBe(given.pair.prompt_length - begun);
  });

  it.runIf(given.template)("pairs with a prompt in messages end as the template ends an answer", async () => {
    const tokenizer = await openKind(given);
    const { chosen } = await pairOf(talk);
    const end = kind in written ? tokenizer.encode(written[kind]) : [tokenizer.eosId];
    expect([...chosen.slice(-end.length)]).toEqual([...end]);
    expect(given.pair.chosen.at(-1)).toBe(tokenizer.eosId);
  });

  it("text2text is LMFlow's between the tokens that begin and end texts", async () => {
    const tokenizer = await openKind(given);
    const rows = [{ prompt: talk[0].content, completion: ` ${good}` }];
    const [{ ids, promptLength }] = (await openDataset(rows).sequences(tokenizer, { maxLength: 512 })).train;
    const { prefixIds, eosId } = tokenizer;
    expect([...ids]).toEqual([...prefixIds, ...given.text2text.ids, eosId]);
    expect(promptLength).toBe(prefixIds.length + given.text2text.labels.filter((label) => label === -100).length);
    expect(prefixIds.length).toBe(addsNone.includes(kind) ? 0 : 1);
  });
});
