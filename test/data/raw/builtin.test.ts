import { describe, expect, it } from "vitest";
import { allDatasets, loadSamples } from "webrlhf/data";
import { priorSets } from "../../../src/data/raw/builtin/reward-bench.ts";
import { complaint, given, hub, jsonl } from "./sources.ts";

const pku = {
  prompt: "How?",
  response_0: "So.",
  response_1: "Not.",
  is_response_0_safe: true,
  is_response_1_safe: false,
  better_response_id: 1,
  safer_response_id: 0,
};

describe("PKU-SafeRLHF", () => {
  it("knows both labels", async () => {
    const sample = {
      input: "How?",
      answer: "So.",
      other_answer: "Not.",
      better: false,
      safer: true,
      is_safe: true,
      is_other_safe: false,
      where: expect.any(String),
    };
    for (const name of ["PKU-SafeRLHF/train", "PKU-SafeRLHF/test", "PKU-SafeRLHF-30K/test", "PKU-SafeRLHF-10K/train"]) {
      expect(await loadSamples(name, given(pku))).toEqual([sample]);
    }
    expect(await loadSamples("PKU-SafeRLHF-30K/train-safer", given(pku))).toEqual([{ ...sample, better: true }]);
  });

  it.each([
    ["better_response_id", 2, '"better_response_id" is 2, out of range: it must be 0 or 1'],
    ["safer_response_id", -1, '"safer_response_id" is -1, out of range: it must be 0 or 1'],
    ["is_response_0_safe", 1, '"is_response_0_safe" must be true or false, not 1'],
    ["response_1", 5, '"response_1" must be text, not 5'],
  ])("refuses %s = %s", async (column, value, message) => {
    expect(await complaint(loadSamples("PKU-SafeRLHF/train", given(pku, { ...pku, [column]: value })))).toBe(
      `PKU-SafeRLHF/train: rows.jsonl:2: ${message}`,
    );
  });
});

describe("alpaca", () => {
  it("joins instruction and input by a space", async () => {
    const rows = given(
      { instruction: "Add", input: "1 2", output: "3" },
      { instruction: "Hi", input: "", output: "Ho" },
    );
    expect((await loadSamples("alpaca", rows)).map(({ input, answer }) => [input, answer])).toEqual([
      ["Add 1 2", "3"],
      ["Hi", "Ho"],
    ]);
  });
});

describe("HH", () => {
  const h = (text: string) => `\n\nHuman: ${text}`;
  const a = (text: string) => `\n\nAssistant: ${text}`;
  const load = async (chosen: string, rejected: string) =>
    (
      await loadSamples(
        "hh-rlhf/harmless-base/test",
        given({ chosen, rejected }, { chosen: h("x") + a("y"), rejected: h("x") + a("z") }),
      )
    )
      .slice(0, -1)
      .map(({ where, ...sample }) => sample);

  it("cuts two transcripts where their answers begin", async () => {
    const start = h("Hi") + a("Hello.") + h("Tell me.");
    expect(await load(start + a("The good."), start + a("The bad."))).toEqual([
      { input: ["Hi", "Hello.", "Tell me."], answer: "The good.", other_answer: "The bad.", better: true },
    ]);
    // What differs may begin in the middle of a word, or be the whole rest of a longer conversation.
    expect(
      await load(h("Hi") + a("One.") + h("More") + a("Two."), h("Hi") + a("Once.") + h("No") + a("Three.")),
    ).toEqual([
      {
        input: ["Hi"],
        answer: "One.\n\nHuman: More\n\nAssistant: Two.",
        other_answer: "Once.\n\nHuman: No\n\nAssistant: Three.",
        better: true,
      },
    ]);
    // Nothing but the start of one answer is in common with the other.
    expect(await load(h("Hi") + a("Yes"), h("Hi") + a("Yes, of course."))).toEqual([
      { input: ["Hi"], answer: "Yes", other_answer: "Yes, of course.", better: true },
    ]);
  });

  it("joins consecutive turns of one speaker", async () => {
    const start = h("Hi") + h("Are you there?") + a("Yes.") + a("I am.");
    expect(await load(start + a("Good."), start + a("Bad."))).toMatchObject([
      { input: ["Hi\n\nAre you there?"], answer: "Good." },
    ]);
    expect(await load(a("Welcome!") + h("Hi") + a("Good."), a("Welcome!") + h("Hi") + a("Bad."))).toMatchObject([
      { input: ["", "Welcome!", "Hi"] },
    ]);
    expect(await load(`Be kind.${h("Hi")}${a("Good.")}`, `Be kind.${h("Hi")}${a("Bad.")}`)).toMatchObject([
      { system: "Be kind.", input: ["Hi"] },
    ]);
  });

  it("drops pairs of the same answer, and of nothing in common", async () => {
    expect(await load(h("Hi") + a("Same."), h("Hi") + a("Same."))).toEqual([]);
    expect(await load(h("Hi") + a("Same."), `${h("Hi") + a("Same.")} `)).toEqual([]);
    expect(await load(h("Hi") + a("Yes."), h("Ho") + a("No."))).toEqual([]);
  });

  it("has helpful subsets, and two processed forms", async () => {
    const row = (n: number) => ({ chosen: h("q") + a(`good ${n}`), rejected: h("q") + a("bad") });
    const locate = hub({
      "Anthropic/hh-rlhf helpful-base train": [row(1)],
      "Anthropic/hh-rlhf helpful-online train": [row(2)],
      "Anthropic/hh-rlhf helpful-rejection-sampled train": [row(3)],
      "Anthropic/hh-rlhf test": [row(4)],
      "Dahoas/full-hh-rlhf train": [
        { prompt: `${h("q")}\n\nAssistant:`, response: "", chosen: " good", rejected: " bad" },
      ],
      "PKU-Alignment/processed-hh-rlhf harmless-base test": [
        { context: [{ text: "q" }, { text: "r" }, { text: "s" }], chosen: { text: "good" }, rejected: { text: "bad" } },
      ],
    });
    const answers = (await loadSamples("hh-rlhf/helpful/train", { locate })).map(({ answer }) => answer);
    expect(answers.sort()).toEqual(["good 1", "good 2", "good 3"]);
    expect(await loadSamples("hh-rlhf/test", { locate })).toMatchObject([{ answer: "good 4" }]);
    expect(await loadSamples("full-hh-rlhf/train", { locate })).toMatchObject([
      { input: ["q"], answer: "good", other_answer: "bad", better: true },
    ]);
    expect(await loadSamples("processed-hh-rlhf/harmless-base/test", { locate })).toMatchObject([
      { input: ["q", "r", "s"], answer: "good", other_answer: "bad", better: true },
    ]);
  });
});

describe("SHP", () => {
  const row = (post: string, ratio: number, labels = 1) => ({
    post_id: post,
    history: `post ${post}`,
    human_ref_A: "A",
    human_ref_B: "B",
    labels,
    score_ratio: ratio,
  });

  it("keeps score ratios above 2 and a number of pairs of a post", async () => {
    const rows = [row("p", 2), ...Array.from({ length: 7 }, (_, i) => row("p", 3 + i)), row("q", 2.1, 0), row("p", 9)];
    const mix2 = given(...rows);
    const samples = await loadSamples("SHP/train", mix2);
    expect(samples.map(({ where }) => where?.replace(/.*:/, ""))).toEqual(["2", "3", "4", "5", "6", "9"]);
    expect(samples[0]).toMatchObject({ input: "post p", answer: "A", other_answer: "B", better: true });
    expect(samples[5]).toMatchObject({ input: "post q", better: false });
    expect(mix2.skipped).toEqual(["its score ratio is not above 2", ...Array(3).fill("its post has 5 pairs already")]);
    expect((await loadSamples("SHP/train-1", given(...rows))).map(({ input }) => input)).toEqual(["post p", "post q"]);
    expect(await loadSamples("SHP/train-all", given(...rows))).toHaveLength(10);
  });

  it("refuses labels out of range", async () => {
    expect(await complaint(loadSamples("SHP/test", given(row("p", 3, 2))))).toMatch(/"labels" is 2, out of range/);
  });
});

describe("sets of scored answers", () => {
  const completion = (response: string, ratings: (string | number)[], overall_score = 1) => ({
    response,
    overall_score,
    annotations: Object.fromEntries(
      ["instruction_following", "honesty", "truthfulness", "helpfulness"].map((aspect, i) => [
        aspect,
        { Rating: ratings[i] },
      ]),
    ),
  });
  const steer = (prompt: string, response: string, helpfulness: number, correctness: number) => ({
    prompt,
    response,
    helpfulness,
    correctness,
    coherence: 4,
    complexity: 1,
    verbosity: 1,
  });

  it("UltraFeedback ranks by the mean of four ratings, not by the overall score", async () => {
    const instruction = {
      instruction: "Q",
      completions: [
        completion("low", ["1", "2", "1", "2"], 10),
        completion("high", ["5", "5", "4", "5"], 1),
        completion("tied", ["2", "1", "2", "1"], 9),
        completion("unrated", ["5", "N/A", "5", "5"], 9),
      ],
    };
    const rows = given(instruction, { instruction: "T", completions: instruction.completions.slice(0, 1) });
    const pairs = (await loadSamples("UltraFeedback", rows)).map(({ answer, other_answer }) => [answer, other_answer]);
    expect(pairs).toEqual([
      ["high", "low"],
      ["high", "tied"],
    ]);
    expect(rows.skipped).toEqual(["no two of its answers differ in score"]);
    const chosen = await loadSamples("UltraFeedback/best-random", given(instruction));
    expect(chosen).toHaveLength(1);
    expect(chosen[0].answer).toBe("high");
    expect(
      await complaint(
        loadSamples("UltraFeedback", given({ ...instruction, completions: [completion("x", [6, 1, 1, 1])] })),
      ),
    ).toMatch(/completion 1: the rating of "instruction_following" is 6, out of range/);
  });

  it("takes all six pairs of four different answers", async () => {
    const four = [1, 3, 2, 4].map((n) => steer("Q", `answer ${n}`, n, n));
    const pairs = (await loadSamples("HelpSteer/train", given(...four))).map(
      ({ answer, other_answer }) => `${answer?.slice(-1)}>${other_answer?.slice(-1)}`,
    );
    expect(pairs.sort()).toEqual(["2>1", "3>1", "3>2", "4>1", "4>2", "4>3"]);
  });

  it("groups HelpSteer's rows by prompt, wherever they stand, and drops ties", async () => {
    const rows = [
      steer("P", "p1", 4, 2),
      steer("Q", "q1", 0, 0),
      steer("P", "p2", 3, 3),
      steer("Q", "q2", 1, 0),
      steer("P", "p3", 1, 1),
      steer("R", "r1", 2, 2),
    ];
    const options = given(...rows);
    const pairs = (await loadSamples("HelpSteer/train", options)).map(({ answer, other_answer }) => [
      answer,
      other_answer,
    ]);
    expect(pairs).toEqual([
      ["p1", "p3"],
      ["p2", "p3"],
      ["q2", "q1"],
    ]);
    expect(options.skipped).toHaveLength(1);
    expect(await complaint(loadSamples("HelpSteer/train", given(steer("P", "p", 5, 1))))).toMatch(
      /"helpfulness" must be a number from 0 to 4, not 5/,
    );
  });

  it("draws the other answer among the worse ones, by seed and prompt", async () => {
    const prompts = Array.from({ length: 900 }, (_, i) => `prompt ${i}`);
    const rows = prompts.flatMap((p) => [
      steer(p, "best", 4, 4),
      steer(p, "also best", 4, 4),
      steer(p, "a", 1, 1),
      steer(p, "b", 2, 2),
      steer(p, "c", 3, 3),
    ]);
    const others = async (list: unknown[], seed = 42) =>
      (await loadSamples("HelpSteer/train-best-random", { ...given(...list), seed })).map(
        ({ input, other_answer }) => `${input} ${other_answer}`,
      );
    const found = await others(rows);
    expect(found).toHaveLength(900);
    for (const letter of "abc") {
      const count = found.filter((text) => text.endsWith(` ${letter}`)).length;
      expect(Math.abs(count - 300)).toBeLessThan(5 * Math.sqrt((900 * 2) / 9));
    }
    // What is drawn for a prompt does not depend on where it stands.
    expect((await others([...rows.slice(450), ...rows.slice(0, 450)])).sort()).toEqual([...found].sort());
    expect(await others(rows, 1)).not.toEqual(found);
  });

  it("says so where all are tied", async () => {
    const tied = [steer("P", "p", 1, 2), steer("P", "q", 2, 1), steer("Q", "p", 1, 2)];
    for (const name of ["HelpSteer/train", "HelpSteer/train-best-random"]) {
      expect(await complaint(loadSamples(name, given(...tied)))).toBe(
        `${name}: the dataset gives no samples: no two of its answers differ in score (2)`,
      );
    }
  });
});

describe("sets of conversations", () => {
  const talk = (...contents: string[]) =>
    contents.map((content, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content }));
  const capybara = (chosen: unknown, rejected: unknown, rating: [number | string, number] = [5, 3]) => ({
    chosen,
    rejected,
    rating_chosen: rating[0],
    rating_rejected: rating[1],
  });

  it("Capybara drops equal ratings", async () => {
    const options = given(
      capybara(talk("a", "b", "c", "good"), talk("a", "b", "c", "bad")),
      capybara(talk("a", "x"), talk("a", "y"), [4, 4]),
    );
    expect(await loadSamples("Capybara", options)).toMatchObject([
      { input: ["a", "b", "c"], answer: "good", other_answer: "bad", better: true },
    ]);
    expect(options.skipped).toEqual(["both answers are rated alike"]);
    expect(await complaint(loadSamples("Capybara", given(capybara(talk("a", "b"), talk("a", "c"), ["5", 3]))))).toMatch(
      /"rating_chosen" must be a number, not "5"/,
    );
  });

  it.each([
    [talk("a"), talk("b"), "its number of messages is odd"],
    [talk("a", "b", "c", "d"), talk("a", "b"), "the conversations differ in length"],
    [talk("a", "b").reverse(), talk("a", "c").reverse(), "user and assistant do not take turns"],
    [talk("a", " "), talk("a", "c"), "a message is empty"],
    [talk("a", "b", "c", "d"), talk("a", "x", "c", "e"), "the conversations part before their last message"],
    [talk("a", "b"), talk("a", "b"), "both answers are the same"],
    [[], [], "its number of messages is odd"],
  ])("the validity filter: %#", async (chosen, rejected, reason) => {
    const options = given({ chosen, rejected }, { chosen: talk("ok", "x"), rejected: talk("ok", "y") });
    expect(await loadSamples("preference_700K", options)).toHaveLength(1);
    expect(options.skipped).toEqual([reason]);
  });

  it("Unified-Feedback takes the higher rating and drops ties", async () => {
    const row = (a: number, b: number) => ({
      conv_A: talk("q", "A"),
      conv_B: talk("q", "B"),
      conv_A_rating: a,
      conv_B_rating: b,
    });
    const samples = await loadSamples("Unified-Feedback/all/train", given(row(1, 0), row(0, 1), row(2, 2)));
    expect(samples.map(({ answer }) => answer)).toEqual(["A", "B"]);
    const locate = hub({ "llm-blender/Unified-Feedback Nectar val": [row(1, 0)] });
    expect(await loadSamples("Unified-Feedback/Nectar/val", { locate })).toHaveLength(1);
  });

  it("Orca drops equal and missing ratings and places the system message", async () => {
    const row = (rating: unknown, system = "Be brief.") => ({
      system,
      input: "Q",
      chosen: "good",
      rejected: "bad",
      rating,
    });
    const options = given(row([9, 7]), row([8, 8]), row(null), row([3, 4], ""));
    const folded = await loadSamples("Orca", options);
    expect(folded.map(({ input, system }) => [input, system])).toEqual([
      ["Be brief.\n\nQ", undefined],
      ["Q", undefined],
    ]);
    expect(options.skipped).toEqual(["both answers are rated alike", "it has no ratings"]);
    expect(await loadSamples("Orca/system", given(row([9, 7])))).toMatchObject([{ system: "Be brief.", input: "Q" }]);
  });
});

describe("RewardBench", () => {
  it("keeps subsets, and the prior sets have nine of them", async () => {
    const row = { prompt: "Q", chosen: "good", rejected: "bad", subset: "mt-bench-hard", id: 1 };
    expect(await loadSamples("RewardBench/filtered", given(row))).toMatchObject([
      { input: "Q", answer: "good", other_answer: "bad", better: true, subset: "mt-bench-hard" },
    ]);
    const turns = [
      { role: "user", content: "a" },
      { role: "assistant", content: "b" },
      { role: "user", content: "c" },
    ];
    for (const split of priorSets) {
      const options = given({ ...row, prompt: turns }, { ...row, prompt: turns.slice(0, 2) }, row);
      expect(await loadSamples(`preference-test-sets/${split}`, options)).toMatchObject([
        { input: ["a", "b", "c"], answer: "good", subset: split },
        { input: ["Q"], answer: "good", subset: split },
      ]);
      expect(options.skipped).toHaveLength(1);
    }
    expect(priorSets).toHaveLength(9);
  });
});

describe("the named mixtures", () => {
  it("are made of what they say", async () => {
    const asked = new Set<string>();
    const h = { chosen: "\n\nHuman: q\n\nAssistant: good", rejected: "\n\nHuman: q\n\nAssistant: bad" };
    const talk = (last: string) => [
      { role: "user", content: "q" },
      { role: "assistant", content: last },
    ];
    const ratings = (Rating: string) =>
      Object.fromEntries(
        ["instruction_following", "honesty", "truthfulness", "helpfulness"].map((aspect) => [aspect, { Rating }]),
      );
    const everything = {
      ...h,
      ...pku,
      post_id: "p",
      history: "q",
      human_ref_A: "good",
      human_ref_B: "bad",
      labels: 1,
      score_ratio: 3,
      instruction: "q",
      completions: [
        { response: "good", annotations: ratings("5") },
        { response: "bad", annotations: ratings("1") },
      ],
    };
    const rows: Record<string, unknown[]> = {
      "argilla/distilabel-capybara-dpo-7k-binarized": [
        { chosen: talk("good"), rejected: talk("bad"), rating_chosen: 2, rating_rejected: 1 },
      ],
      "argilla/distilabel-intel-orca-dpo-pairs": [{ input: "q", chosen: "good", rejected: "bad", rating: [2, 1] }],
      "nvidia/HelpSteer": [
        { prompt: "q", response: "good", helpfulness: 4, correctness: 4 },
        { prompt: "q", response: "bad", helpfulness: 1, correctness: 1 },
      ],
    };
    const locate = async ({ repo, config }: { repo: string; config?: string }) => {
      asked.add(config ? `${repo} ${config}` : repo);
      return [jsonl("rows.jsonl", rows[repo.replace("here/", "")] ?? [everything])];
    };
    // Three subsets of HH, then one pair of each of the others.
    expect(await loadSamples("mix1", { locate })).toHaveLength(8);
    expect(await loadSamples("mix2", { locate })).toHaveLength(8);
    expect([...asked].filter((repo) => repo.startsWith("Anthropic"))).toEqual([
      "Anthropic/hh-rlhf helpful-base",
      "Anthropic/hh-rlhf helpful-online",
      "Anthropic/hh-rlhf helpful-rejection-sampled",
    ]);
    const safety = await loadSamples("mix2-30K-safety", { locate });
    expect(safety).toHaveLength(9);
    expect(safety.filter(({ safer }) => safer !== undefined)).toMatchObject([{ better: true }]);
    expect(
      (await loadSamples("mix2-30K-helpful", { locate })).filter(({ safer }) => safer !== undefined),
    ).toMatchObject([{ better: false }]);
    const large = await loadSamples("mix2-150K-safety", { locate });
    expect(large).toHaveLength(150_008);
    // With a path the published sets are looked for in that folder.
    asked.clear();
    await loadSamples("mix2-30K-safety", { locate, path: "here/" });
    expect([...asked]).toContain("here/PKU-Alignment/PKU-SafeRLHF-30K");
    expect([...asked].every((repo) => repo.startsWith("here/"))).toBe(true);
  });

  it("all names are unlike each other", () => {
    const names = allDatasets().flatMap(({ name, aliases = [] }) => [name, ...aliases]);
    expect(new Set(names).size).toBe(names.length);
    expect(allDatasets().every(({ about }) => about !== "")).toBe(true);
  });
});
