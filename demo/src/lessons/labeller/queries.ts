/** What the page asks while labels are given: a judge of those there are. */

import * as v from "valibot";
import { labelsSchema } from "../../lib/labels.ts";
import type { Query } from "../../lib/lesson/types.ts";
import { readTokenizer } from "../../lib/lesson/work.ts";
import { agrees, aheadOf, freshJudge, likens, teach } from "./judge.ts";

const question = v.strictObject({
  labels: labelsSchema,
  /** Labels that came after those, to be told by the judge of before. */
  later: labelsSchema,
  others: v.nullable(labelsSchema),
  seed: v.pipe(v.number(), v.integer(), v.minValue(0)),
});

const asked = v.strictObject({
  labels: labelsSchema,
  /** Pairs to decide, written as labels. */
  pairs: labelsSchema,
  seed: v.pipe(v.number(), v.integer(), v.minValue(0)),
});

export const queries: Record<string, Query> = {
  /** Trains a judge on labels; says how often it decides as each rule does, as `later` and as somebody else did. */
  async judge(argument, { start, signal }) {
    const { labels, later, others, seed } = v.parse(question, argument);
    const tokenizer = await readTokenizer(start);
    const judge = await freshJudge(start, seed);
    try {
      for await (const _ of teach(judge, tokenizer, labels, seed, { signal }));
      signal.throwIfAborted();
      const { values } = await likens(judge, tokenizer, seed);
      if (later.length > 0) {
        const { same, of } = await agrees(judge, tokenizer, later);
        Object.assign(values, { later_same: same, later_of: of });
      }
      if (others?.length) values.others = (await agrees(judge, tokenizer, others)).share;
      return values;
    } finally {
      judge.destroy();
    }
  },

  /** Trains such a judge and says of each of other pairs how far it puts the chosen story ahead; below 0 it decides otherwise. */
  async decide(argument, { start, signal }) {
    const { labels, pairs, seed } = v.parse(asked, argument);
    const tokenizer = await readTokenizer(start);
    const judge = await freshJudge(start, seed);
    try {
      for await (const _ of teach(judge, tokenizer, labels, seed, { signal }));
      signal.throwIfAborted();
      return await aheadOf(judge, tokenizer, pairs);
    } finally {
      judge.destroy();
    }
  },
};
