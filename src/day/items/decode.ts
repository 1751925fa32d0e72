/** Generation: one sequence and many, short contexts and long ones. */
import { generate } from "../../nn/generate.ts";
import { CausalLM } from "../../nn/models.ts";
import type { DayContext, DayItem } from "../item.ts";
import { tokensOf } from "../made-up.ts";
import { Budget, paceOfCalls } from "../pace.ts";

export const decode: DayItem = {
  name: "decode",
  summary:
    "generation by the model, one sequence and many, after short prompts and long ones, in f32, in half precision, and with a cache in 8 bits",
  share: 40,
  async run({ caps, model, seconds, tell }: DayContext) {
    const budget = new Budget(seconds);
    const policy = new CausalLM(model.config, "the day's model").initialize(1);
    const { prompt, response } = model;
    const longest = model.config.maxPositions - response;
    const long = [1024, 8192].filter((length) => length > prompt && length <= longest);
    const cases = (caps.f16 ? [false, true] : [false]).flatMap((half) => [
      ...model.decode.map((sequences) => ({ half, coded: false, sequences, length: prompt })),
      ...(model.decode.length > 2 ? long.map((length) => ({ half, coded: false, sequences: 1, length })) : []),
      { half, coded: true, sequences: Math.max(...model.decode), length: prompt },
    ]);
    try {
      for (const [at, { half, coded, sequences, length }] of cases.entries()) {
        policy.half = half;
        policy.kvCache = coded ? "int8" : "auto";
        const prompts = Array.from({ length: sequences }, (_, s) => tokensOf(model, length, s));
        const each = budget.shareOf(cases.length - at) / 2;
        const timed = async (maxNewTokens: number) =>
          paceOfCalls(() => generate(policy, prompts, { maxNewTokens, seed: 1, eosIds: [] }), each);
        const first = await timed(1);
        const all = await timed(1 + response);
        // Of two best times the difference is least disturbed; where noise hides even that, the prompt is counted in.
        const later = all.best - first.best;
        const [tokens, taken] = later > all.best / 10 ? [response, later] : [1 + response, all.best];
        tell({
          what: `decoding${half ? " in half precision" : ""}${coded ? " with a cache in 8 bits" : ""}, ${sequences} sequences after ${length} tokens`,
          unit: "tokens/s",
          value: (sequences * tokens) / taken,
          samples: all.samples,
          how: `${tokens} tokens each, ${tokens === response ? "without" : "with"} the prompt's ${(first.best * 1e3).toFixed(1)} ms`,
        });
      }
    } finally {
      policy.destroy();
    }
  },
};
