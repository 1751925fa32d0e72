/** What goes over a cluster's wire, and what is refused of what comes back. */
import { describe, expect, it } from "vitest";
import { jobsOf, type SamplingJob } from "webrlhf/rlhf";
import {
  decodeJob,
  decodeResult,
  type Expected,
  encodeJob,
  encodeResult,
  largestResult,
} from "../../src/cluster/messages.ts";
import { type PolicyRef, Refused } from "../../src/cluster/wire.ts";

const policy: PolicyRef = { base: [{ name: "config.json", sha256: "a".repeat(64), size: 3 }], adapter: null };
const prompts = [Uint32Array.of(1, 2), Uint32Array.of(3)];
const [job] = jobsOf(prompts, [4, 5], { iteration: 3, samples: 2, seed: 1, maxNewTokens: 4, temperature: 0.7 });
const drawer = { worker: "w", adapter: "software", seconds: 1.5 };
const responses = [[5, 9], [6, 6, 6, 6], [9], [7, 7, 9]].map((ids) => ({
  ids: Uint32Array.from(ids),
  logProbs: Float32Array.from(ids, (id) => -id / 7),
  ended: ids.at(-1) === 9,
}));
const result = { id: job.id, version: 3, responses };
const expected: Expected = { key: "k", job, vocabSize: 10, endIds: [9] };
const written = () => encodeResult("k", drawer, result);

describe("a job", () => {
  it("comes as it was sent, and its key is its content's", async () => {
    const { key, bytes } = await encodeJob("run", { policy, job });
    expect(decodeJob(bytes)).toEqual({ policy, job });
    expect((await encodeJob("run", { policy, job })).key).toBe(key);
    const others = [
      { ...job, temperature: 0.8 },
      { ...job, version: 4 },
      { ...job, streams: job.streams.with(0, 1) },
    ];
    const keys = await Promise.all(others.map(async (other) => (await encodeJob("run", { policy, job: other })).key));
    expect(new Set([key, ...keys]).size).toBe(4);
  });

  it("has no number that JSON cannot say", async () => {
    await expect(encodeJob("run", { policy, job: { ...job, temperature: Number.NaN } })).rejects.toThrow(/temperature/);
    const { bytes } = await encodeJob("run", { policy, job: { ...job, maxLength: Number.POSITIVE_INFINITY } });
    expect(decodeJob(bytes).job).toEqual(job);
  });

  it("is refused where it is none, or another version's", async () => {
    const { bytes } = await encodeJob("run", { policy, job });
    const changed = (from: string, to: string) =>
      new TextEncoder().encode(new TextDecoder().decode(bytes).replace(from, to));
    const wrong: [Uint8Array, RegExp][] = [
      [new Uint8Array(), /no JSON/],
      [Uint8Array.of(0xff, 0xfe), /no JSON/],
      [changed('"webrlhf":"', '"webrlhf":"9.'), /trainer is webrlhf 9\..* and this worker .*: install the same/],
      [changed('"samples":2', '"samples":3'), /other responses/],
      [changed('"samples":2', '"samples":-2'), /not well-formed/],
      [changed('"config.json"', '"../config.json"'), /not well-formed/],
      [changed('"maxNewTokens":4', '"maxNewTokens":1e99'), /not well-formed/],
      [changed('"prompts":[[1,2],', '"prompts":[[1,-2],'), /not well-formed/],
    ];
    for (const [text, why] of wrong) expect(() => decodeJob(text)).toThrow(why);
    for (const [text] of wrong) expect(() => decodeJob(text)).toThrow(Refused);
  });
});

describe("a result", () => {
  it("comes as it was drawn, to the bit", () => {
    expect(decodeResult(written(), expected)).toEqual({ ...drawer, result });
  });

  it("may begin anywhere in a buffer", () => {
    const shifted = new Uint8Array(written().length + 3);
    shifted.set(written(), 3);
    expect(decodeResult(shifted.subarray(3), expected)).toEqual({ ...drawer, result });
    // As Node's sockets give it.
    if ("Buffer" in globalThis) {
      expect(decodeResult(Buffer.from(shifted.buffer, 3), expected)).toEqual({ ...drawer, result });
    }
  });

  it("may be the reason why there is none", () => {
    expect(decodeResult(encodeResult("k", drawer, { error: "no memory" }), expected)).toEqual({
      ...drawer,
      error: "no memory",
    });
  });

  const changed = (change: (responses: { ids: Uint32Array; logProbs: Float32Array; ended: boolean }[]) => void) => {
    const copies = responses.map(({ ids, logProbs, ended }) => ({
      ids: ids.slice(),
      logProbs: logProbs.slice(),
      ended,
    }));
    change(copies);
    return encodeResult("k", drawer, { ...result, responses: copies });
  };
  const hostile: [string, () => Uint8Array, RegExp][] = [
    ["nothing", () => new Uint8Array(), /too short/],
    ["zeroes", () => new Uint8Array(1000), /header|JSON/],
    ["ones", () => new Uint8Array(1000).fill(255), /header/],
    ["what is too large", () => new Uint8Array(largestResult(job) + 1), /more than the job can have/],
    ["another job's", () => encodeResult("other", drawer, result), /another job/],
    ["another version's", () => encodeResult("k", drawer, { ...result, version: 2 }), /version 2 and not 3/],
    ["one response too few", () => changed((all) => all.pop()), /3 responses and not 4/],
    ["a cut one", () => written().subarray(0, written().length - 4), /size/],
    ["a longer one", () => Uint8Array.from([...written(), 0, 0, 0, 0]), /size/],
    ["NaN", () => changed((all) => all[1].logProbs.fill(Number.NaN)), /log-probability NaN/],
    [
      "minus infinity",
      () => changed((all) => all[1].logProbs.fill(Number.NEGATIVE_INFINITY)),
      /log-probability -Infinity/,
    ],
    ["a positive logarithm", () => changed((all) => all[0].logProbs.fill(0.5)), /log-probability 0.5/],
    ["a token that is none", () => changed((all) => all[1].ids.fill(10)), /token 10/],
    [
      "an empty response",
      () => changed((all) => Object.assign(all[0], { ids: new Uint32Array(), logProbs: new Float32Array() })),
      /0 tokens/,
    ],
    [
      "a response that is too long",
      () => changed((all) => Object.assign(all[0], { ids: new Uint32Array(5), logProbs: new Float32Array(5) })),
      /5 tokens/,
    ],
    ["an end in the middle", () => changed((all) => all[1].ids.set([9], 1)), /does not end/],
    ["an early end that is none", () => changed((all) => Object.assign(all[2], { ended: false })), /does not end/],
    ["an end that is none", () => changed((all) => Object.assign(all[1], { ended: true })), /does not end/],
  ];
  it.each(hostile)("is refused where it is %s", (_, bytes, why) => {
    expect(() => decodeResult(bytes(), expected)).toThrow(why);
    expect(() => decodeResult(bytes(), expected)).toThrow(Refused);
  });

  it("is refused and never worse, whatever bytes there are", () => {
    const good = written();
    for (let i = 0; i < good.length; i++) {
      for (const value of [0, 255, good[i] ^ 1]) {
        const bytes = good.slice();
        bytes[i] = value;
        try {
          const read = decodeResult(bytes, expected);
          expect("error" in read || read.result.responses.length).toBeTruthy();
        } catch (error) {
          expect(error, `byte ${i}`).toBeInstanceOf(Refused);
        }
      }
    }
  });
});

// What is sent is small beside JSON: 8 bytes for a token.
it("has a size that follows from the job", () => {
  const big: SamplingJob = { ...job, maxNewTokens: 256, samples: 8 };
  expect(largestResult(big)).toBeLessThan(2 * 8 * 256 * 8 + 10_000);
});
