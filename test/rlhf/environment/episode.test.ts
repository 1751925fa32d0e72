/** Episodes by hand: which tokens they have, who wrote them, and how they end. The policy is a script, so no GPU is needed. */
import { describe, expect, it } from "vitest";
import { type Environment, type EpisodeStart, environmentReward, type Outcome } from "webrlhf/rlhf";
import { beginEpisode, type DrawTurn, type EpisodeLimits, playEpisode } from "../../../src/rlhf/environment/episode.ts";
import { earlierRewards } from "../../../src/rlhf/environment/reward.ts";
import { wordTokenizer } from "./words.ts";

const tokenizer = wordTokenizer(["what", "is", "it", "a", "b", "no", "yes", "fine", "more"]);
const spelled = (text: string) => tokenizer.encode(text);
const limits: EpisodeLimits = {
  maxTurns: 8,
  maxTokens: 40,
  maxLength: Number.POSITIVE_INFINITY,
  timeout: 1000,
  ends: [tokenizer.eosId],
  stopped: new Promise<never>(() => {}),
};
const prompt = { text: "", ids: new Uint32Array(0), row: { answer: "b" } };

/** A policy that says these texts, turn by turn. */
const says =
  (...texts: string[]): DrawTurn =>
  async (_, most, turn) => {
    const ids = spelled(texts[turn]).slice(0, most);
    return { ids, logProbs: ids.map((_, t) => -(turn + 1) - t / 10), ended: ids.at(-1) === tokenizer.eosId };
  };

/** Asks, answers with these outcomes, and remembers what was done. */
function answering(outcomes: Outcome[], observation = [{ role: "user", content: "what is it" }] as unknown) {
  const actions: string[] = [];
  const closed = { times: 0 };
  const environment: Environment = {
    name: "mine",
    reset: () => ({
      observation: observation as [],
      step({ text, turn, ended }) {
        actions.push(`${turn} ${text}${ended ? "" : " ..."}`);
        return outcomes[turn];
      },
      close: () => void closed.times++,
    }),
  };
  return { environment, actions, closed };
}

const user = (content: string) => [{ role: "user", content }];

async function play(environment: Environment, draw: DrawTurn, some: Partial<EpisodeLimits> = {}) {
  const all = { ...limits, ...some };
  return playEpisode(
    await beginEpisode(environment, { prompt, seed: 7, where: "prompt 3, sample 1" }, tokenizer, all),
    draw,
    all,
  );
}

describe("the tokens of an episode", () => {
  it("are what was shown, what was drawn and what was answered, each tokenised once", async () => {
    const { environment, actions, closed } = answering([
      { observation: user("no"), reward: 0.25 },
      { observation: [{ role: "tool", content: "more" }, ...user("is it")] },
      { reward: 1, done: true, observation: user("yes") },
    ]);
    const response = await play(environment, says("a<end>", "a b<end>", "b<end>"));
    const parts: [string, 0 | 1][] = [
      ["<user>what is it<end><assistant>", 0],
      ["a<end>", 1],
      ["<user>no<end><assistant>", 0],
      ["a b<end>", 1],
      ["<tool>more<end><user>is it<end><assistant>", 0],
      ["b<end>", 1],
    ];
    expect([...response.ids]).toEqual(parts.flatMap(([text]) => spelled(text)));
    expect([...(response.learned as Uint8Array)]).toEqual(parts.flatMap(([text, by]) => spelled(text).map(() => by)));
    expect(response.promptLength).toBe(spelled(parts[0][0]).length);
    expect(response.promptText).toBe("<user>what is it<end><assistant>");
    expect(response.text).toBe("a no a b more is it b");
    expect(response.messages?.map(({ role, content }) => `${role}: ${content}`)).toEqual([
      "user: what is it",
      "assistant: a",
      "user: no",
      "assistant: a b",
      "tool: more",
      "user: is it",
      "assistant: b",
      "user: yes",
    ]);
    expect(response.ended).toBe(true);
    expect(Array.from(response.logProbs as Float32Array, (l) => Math.round(l * 10) / 10)).toEqual([
      -1, -1.1, -2, -2.1, -2.2, -3, -3.1,
    ]);
    const turns = response.turns ?? [];
    expect(turns.map(({ start, end }) => [...response.ids.subarray(start, end)])).toEqual(
      ["a<end>", "a b<end>", "b<end>"].map(spelled),
    );
    expect(turns.map(({ reward }) => reward)).toEqual([0.25, 0, 1]);
    expect(actions).toEqual(["0 a", "1 a b", "2 b"]);
    expect(closed.times).toBe(1);
  });

  it("may be texts and ids, which stand as they are given", async () => {
    const { environment } = answering(
      [{ observation: "no more" }, { observation: Uint32Array.from(spelled("<tool>is")) }, { done: true }],
      "what is",
    );
    const response = await play(environment, says("a<end>", "b<end>", "fine<end>"));
    expect([...response.ids]).toEqual(spelled("what is a<end> no more b<end><tool> is fine<end>"));
    expect([...(response.learned as Uint8Array)].join("")).toBe("001100110011");
    expect(response.messages).toBeUndefined();
  });

  it("begin with the dataset's prompt where the episode shows nothing", async () => {
    const { environment } = answering([{ done: true }], null);
    const asked = { text: "what", ids: Uint32Array.from(spelled("what")), messages: user("what") };
    const shown: Environment = {
      reset: async (start) => ({ step: (await environment.reset(start)).step }),
    };
    const begun = await beginEpisode(shown, { prompt: asked, seed: 1, where: "prompt 0" }, tokenizer, limits);
    const response = await playEpisode(begun, says("a<end>"), limits);
    expect([...response.ids]).toEqual(spelled("what a<end>"));
    expect(response.messages?.length).toBe(2);
  });
});

describe("an episode that is cut off", () => {
  const longer = () => answering([{ observation: user("no") }, { observation: user("no") }, { done: true, reward: 1 }]);

  it("has the turns that it may have, and ends with the policy's words", async () => {
    const response = await play(longer().environment, says("a<end>", "b<end>", "b<end>"), { maxTurns: 2 });
    expect([...response.ids]).toEqual(spelled("<user>what is it<end><assistant>a<end><user>no<end><assistant>b<end>"));
    expect(response.ended).toBe(false);
  });

  it("leaves out an answer behind which there is no room", async () => {
    // Two tokens of the policy's, four of the environment's: a seventh would be the policy's again.
    for (const [maxTokens, text] of [
      [6, "a<end>"],
      [7, "a<end><user>no<end><assistant>b"],
    ] as const) {
      const { environment, actions } = longer();
      const response = await play(environment, says("a<end>", "b<end>", "b<end>"), { maxTokens });
      expect([...response.ids]).toEqual(spelled(`<user>what is it<end><assistant>${text}`));
      expect(response.ended).toBe(false);
      expect(actions.at(-1)).toBe(maxTokens === 6 ? "0 a" : "1 b ...");
    }
  });

  it("is not over by itself though the environment says so of a cut turn, whose reward counts", async () => {
    const { environment } = answering([{ done: true, reward: -1 }]);
    const response = await play(environment, says("a b a b<end>"), { maxTokens: 3 });
    expect(response.ended).toBe(false);
    expect(response.turns?.map(({ reward }) => reward)).toEqual([-1]);
  });

  it("keeps to a limit of prompt and response together", async () => {
    const response = await play(longer().environment, says("a<end>", "b<end>"), { maxLength: 8 });
    expect([...response.ids]).toEqual(spelled("<user>what is it<end><assistant>a<end>"));
  });
});

describe("an environment that fails", () => {
  const where = (text: string) => new RegExp(`^mine, prompt 3, sample 1, ${text}`);
  const failing = async (outcome: unknown, some: Partial<EpisodeLimits> = {}) => {
    const { environment, closed } = answering([{ observation: user("no") }, outcome as Outcome]);
    const error = await play(environment, says("a<end>", "b<end>"), some).catch((error: Error) => error);
    expect(closed.times).toBe(1);
    return (error as Error).message;
  };

  it("is named with the prompt and the turn, whatever it does", async () => {
    expect(await failing({ reward: Number.NaN, done: true })).toMatch(where("turn 2: .*finite number"));
    expect(await failing({})).toMatch(where("turn 2: .*give an observation, or done: true"));
    expect(await failing(undefined)).toMatch(where("turn 2: step gives {observation, reward, done}"));
    expect(await failing(Promise.reject(new TypeError("boom")))).toMatch(where("turn 2: TypeError: boom"));
    expect(await failing(new Promise(() => {}), { timeout: 10 })).toMatch(
      where("turn 2: no answer within 0.01 seconds"),
    );
  });

  it("is told that nobody waits any longer", async () => {
    let told = false;
    const environment: Environment = {
      name: "mine",
      reset: ({ signal }: EpisodeStart) => {
        signal.addEventListener("abort", () => {
          told = true;
        });
        return new Promise(() => {});
      },
    };
    await expect(play(environment, says(), { timeout: 10 })).rejects.toThrow(
      where("at its beginning: no answer within"),
    );
    expect(told).toBe(true);
  });

  it("shows something first", async () => {
    const { environment } = answering([], "");
    await expect(play(environment, says())).rejects.toThrow(/the policy sees nothing first/);
  });
});

describe("the rewards of turns", () => {
  it("stand at the last token that the policy wrote in them", async () => {
    const { environment } = answering([
      { observation: user("no"), reward: 0.5 },
      { observation: user("no") },
      { done: true, reward: 2 },
    ]);
    const response = await play(environment, says("a<end>", "a b<end>", "b<end>"));
    const whole = { ...response, prompt: 0, sample: 0 };
    expect(environmentReward([whole])).toEqual([2.5]);
    const parts = { names: ["environment"], functions: [environmentReward], weights: [2] };
    // Of the policy's 7 tokens, the first turn has the first two. The last turn's reward is what is left of the score.
    expect(earlierRewards(whole, parts)).toEqual([{ at: 1, amount: 1 }]);
    expect(earlierRewards({ ...whole, turns: [] }, parts)).toEqual([]);
  });
});
