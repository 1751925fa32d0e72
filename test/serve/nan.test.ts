/** A model that gives NaN for some prompts: whoever sends these hears of it, and nobody else. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type TinyServer, tinyServer } from "./tiny-server.ts";

/** Its embedding holds a NaN. */
const BAD = 9;
let server: TinyServer;

beforeAll(async () => {
  server = await tinyServer({}, { slots: 2, stepsPerRead: 2, fixedRows: true }, { tieEmbeddings: false });
  const { value } = server.lm.store.parameters.find(({ name }) => name.endsWith("embed.weight"))!;
  const data = await value.read();
  data[BAD * server.lm.config.hiddenSize + 3] = Number.NaN;
  value.write(data);
});
afterAll(() => server.stop());

const ask = (prompt: readonly number[], more: object = {}) =>
  fetch(`${server.url}/v1/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      prompt,
      max_tokens: 12,
      seed: 1,
      ignore_eos: true,
      logit_bias: { [BAD]: -100 },
      return_token_ids: true,
      ...more,
    }),
  });
const good = async (seed: number) => {
  const response = await ask([5, 6, 7], { seed });
  expect(response.status).toBe(200);
  return ((await response.json()) as { choices: { token_ids: number[] }[] }).choices[0].token_ids;
};
const bad = [5, BAD, 7, 8, 10, 11, 12, 13];
const said = /^The server had an error: .+ gives log-probabilities that are not finite \(NaN\): its weights hold NaN/;
const broken = { error: { type: "server_error", message: expect.stringMatching(said) } };

const ways: object[] = [
  { temperature: 0 },
  { temperature: 1, top_p: 0.9 },
  { temperature: 1, n: 2 },
  { max_tokens: 0, echo: true, logprobs: 1 },
];

describe("a prompt for which the model gives NaN", () => {
  it.each(ways)("is answered with a server's error that says so: %o", async (more) => {
    const response = await ask(bad, more);
    expect(response.status).toBe(500);
    expect(await response.json()).toMatchObject(broken);
  });

  it("ends its stream with that error", async () => {
    const lines = (await (await ask(bad, { stream: true })).text()).trim().split("\n\n");
    expect(lines.at(-1)).toBe("data: [DONE]");
    expect(JSON.parse(lines.at(-2)?.slice(6) ?? "")).toMatchObject(broken);
  });

  it("changes nobody else's answer, beside it or after it in the same slot", async () => {
    const seeds = [1, 2, 3, 4];
    const expected = [];
    for (const seed of seeds) expected.push(await good(seed));
    for (let round = 0; round < 3; round++) {
      const both = seeds.map((seed) => [ask(bad, { seed }), good(seed)] as const);
      expect((await Promise.all(both.map(([wrong]) => wrong))).map(({ status }) => status)).toEqual(
        seeds.map(() => 500),
      );
      expect(await Promise.all(both.map(([, right]) => right))).toEqual(expected);
    }
    for (const [i, seed] of seeds.entries()) expect(await good(seed)).toEqual(expected[i]);
    const health = await fetch(`${server.url}/health`);
    expect(await health.json()).toMatchObject({ status: "ok", waiting: 0, active: 0 });
  });
});
