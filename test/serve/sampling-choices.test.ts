/** A sampling parameter that is in the table is known everywhere: to settings, to requests, and to who sends them. */
import { describe, expect, it } from "vitest";
import { grpo, iterate, ppo, raft, sampling, samplingParams } from "webrlhf/rlhf";
import { generateSettings, serveSettings } from "../../src/cli/generation-settings.ts";
import { eachChoice, slotOptions } from "../../src/nn/sampling.ts";
import { requestFields } from "../../src/rlhf/remote.ts";
import { Fields, samplingFields } from "../../src/serve/fields.ts";

const config = { vocabSize: 100, eosIds: [] };

describe.each(eachChoice)("%s", (name, snake, { neutral, whole, asked }) => {
  const value = whole ? neutral + 1 : neutral === 1 ? 0.5 : neutral + 0.25;

  it("is a setting of trainers and verbs, and reaches the sampler", () => {
    const kind = whole ? "int" : "float";
    for (const { table } of [ppo, generateSettings]) expect(table[name]).toMatchObject({ kind, default: neutral });
    for (const { table } of [grpo, iterate, raft]) expect(table[name]).toMatchObject({ kind }); // RAFT has a temperature of its own
    expect(Object.keys(serveSettings.table)).not.toContain(name); // of servers requests say it
    const chosen = samplingParams({ ...ppo({}), [name]: value } as ReturnType<typeof ppo>);
    expect(chosen[name]).toBe(value);
    expect(slotOptions({ maxNewTokens: 1, seed: 1, ...chosen }, config, 0)[name]).toBe(value);
  });

  it("goes into a request and out of it", () => {
    const fields = requestFields({ [name]: value });
    expect(fields).toEqual({ [snake]: value });
    const { stop: _, ...read } = samplingFields(new Fields(fields), 100);
    expect(read).toEqual({ [name]: value });
    expect(() => samplingFields(new Fields({ [snake]: -5 }), 100)).toThrow(new RegExp(`^${snake} must be`));
  });

  it("does nothing where nothing is said, and is held to its limits", () => {
    expect(slotOptions({ maxNewTokens: 1, seed: 1 }, config, 0)[name]).toBe(neutral);
    expect(sampling[name].default).toBe(neutral);
    expect(asked[0]).toBeLessThan(asked[1]);
    expect(() => slotOptions({ maxNewTokens: 1, seed: 1, [name]: -1 }, config, 0)).toThrow(
      new RegExp(`^${snake} must be a (whole )?number (above|of at least) 0`),
    );
  });
});

it("requests may ask for the likeliest token by top_p 0, and for all by top_k -1", () => {
  expect(samplingFields(new Fields({ top_p: 0, top_k: -1 }), 100)).toMatchObject({ topP: 1e-6, topK: 0 });
});
