import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { HttpError, OpenAIClient, type OpenAIClientOptions } from "webrlhf";
import { worldPrompts } from "webrlhf/data";
import {
  jobsOf,
  remoteSampler,
  remoteSource,
  responseLogProbs,
  responsesOf,
  type Response as Sampled,
  type Sampler,
  sampleRemotely,
  sampleResponses,
  trainRaft,
} from "webrlhf/rlhf";
import { serverSentEvents } from "../../src/io/sse.ts";
import { expectClose } from "../helpers.ts";
import { type TinyServer, tinyServer, tokenizer } from "./tiny-server.ts";

describe("serverSentEvents", () => {
  const parse = async (parts: string[]) => {
    const bytes = parts.map((p) => new TextEncoder().encode(p));
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const b of bytes) controller.enqueue(b);
        controller.close();
      },
    });
    const events: string[] = [];
    for await (const event of serverSentEvents(body)) events.push(event);
    return events;
  };

  it("reads events however they are cut and whatever ends their lines", async () => {
    const text =
      ': hello\n\ndata: {"a": "é"}\n\nevent: x\r\ndata:one\r\ndata:  two\r\n\r\nid: 3\rdata: last\r\rdata: lost';
    const expected = ['{"a": "é"}', "one\n two", "last"];
    expect(await parse([text])).toEqual(expected);
    const bytes = [...new TextEncoder().encode(text)];
    for (const size of [1, 2, 3, 7]) {
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          for (let i = 0; i < bytes.length; i += size) controller.enqueue(Uint8Array.from(bytes.slice(i, i + size)));
          controller.close();
        },
      });
      const events: string[] = [];
      for await (const event of serverSentEvents(body)) events.push(event);
      expect(events).toEqual(expected);
    }
  });

  it("gives up on an event without end", async () => {
    await expect(
      parse([
        "data: ",
        ..."x"
          .repeat(17)
          .split("")
          .map(() => "x".repeat(1 << 20)),
      ]),
    ).rejects.toThrow("without end");
  });
});

describe("the client", () => {
  let stub: Server | null = null;
  afterEach(() => {
    stub?.closeAllConnections();
    stub?.close();
  });

  async function against(listener: RequestListener, more: Partial<OpenAIClientOptions> = {}): Promise<OpenAIClient> {
    stub = createServer(listener);
    await new Promise<void>((resolve) => stub?.listen(0, "127.0.0.1", resolve));
    const { port } = stub.address() as AddressInfo;
    return new OpenAIClient({ baseUrl: `http://127.0.0.1:${port}`, backoffMs: 1, ...more });
  }

  it("tries again when a server is busy, and tells when it stays so", async () => {
    let asked = 0;
    const client = await against((request, response) => {
      asked += 1;
      request.resume();
      if (asked === 1) return response.writeHead(429, { "Retry-After": "0.01" }).end("{}");
      if (asked === 2) return response.writeHead(503).end("not JSON");
      if (asked === 3) return response.destroy();
      response.end('{"data": [{"id": "m"}]}');
    });
    expect(await client.models()).toEqual(["m"]);
    expect(asked).toBe(4);
    const busy = await against((_, response) => response.writeHead(500).end('{"error": {"message": "on fire"}}'), {
      retries: 2,
    });
    await expect(busy.models()).rejects.toThrow(/500 on fire/);
  });

  it("does not repeat what is wrong", async () => {
    let asked = 0;
    const client = await against((_, response) => {
      asked += 1;
      response.writeHead(400).end('{"error": {"message": "no such thing"}}');
    });
    const error = await client.completion({}).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(HttpError);
    expect(error).toMatchObject({ status: 400 });
    expect(asked).toBe(1);
  });

  it("stops when it is told to, or when nothing comes", async () => {
    const client = await against(() => {}, { timeoutMs: 100, retries: 0 });
    await expect(client.models()).rejects.toThrow(/said nothing for 0.1 s/);
    const controller = new AbortController();
    const waiting = client.models(controller.signal);
    controller.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
    const silent = await against((_, response) => void response.write('data: {"choices": []}\n\n'), {
      timeoutMs: 1000,
    });
    const events: unknown[] = [];
    const reading = (async () => {
      for await (const event of silent.completionStream({})) events.push(event);
    })();
    await expect(reading).rejects.toThrow(/said nothing/);
    expect(events.length).toBe(1);
  });

  it("notices streams that break off or carry an error", async () => {
    const collect = async (client: OpenAIClient) => {
      for await (const _ of client.chatStream({}));
    };
    const broken = await against((_, response) => response.end('data: {"choices": []}\n\n'));
    await expect(collect(broken)).rejects.toThrow("broke off");
    const failing = await against((_, response) => response.end('data: {"error": {"message": "out of memory"}}\n\n'));
    await expect(collect(failing)).rejects.toThrow("out of memory");
  });

  it("says what is wrong with an address", async () => {
    expect(() => new OpenAIClient({ baseUrl: "localhost 8000" })).toThrow(/is no URL/);
    expect(() => new OpenAIClient({ baseUrl: "file:///etc/passwd" })).toThrow(/only http and https/);
    const nobody = new OpenAIClient({ baseUrl: "http://127.0.0.1:9", retries: 0 });
    await expect(nobody.models()).rejects.toThrow(/cannot be reached .*is the server running there/);
  });
});

describe("a server that samples for a trainer", () => {
  let server: TinyServer;
  beforeAll(async () => {
    server = await tinyServer({}, { maxWaiting: 64 });
  });
  afterAll(() => server.stop());

  const prompts = ["Once there was a cat", "The dog", "One day Sam"].map((text) => ({
    text,
    ids: Uint32Array.from(tokenizer.encode(text)),
  }));
  const options = { maxNewTokens: 10, samples: 2, seed: 3, iteration: 4 };

  it("gives the responses that the policy gives", async () => {
    const client = new OpenAIClient({ baseUrl: server.url });
    const sampler = { client, model: "tiny", tokenizer };
    const greedy = { ...options, temperature: 0 };
    const remote = await sampleRemotely(sampler, prompts, [7, 8, 9], greedy);
    const here = await sampleResponses(server.lm, tokenizer, prompts, [7, 8, 9], greedy);
    expect(remote).toEqual(here.map(({ version: _, logProbs: __, ...response }) => response));
    // Sampled ones depend on the prompt's number alone.
    const three = await sampleRemotely({ ...sampler, concurrency: 1 }, prompts, [7, 8, 9], options);
    const [one] = await sampleRemotely(sampler, prompts.slice(2), [9], options);
    expect(one.ids).toEqual(three[4].ids);
    expect(three[0].ids).not.toEqual(three[1].ids);
  });

  it("serves RAFT", async () => {
    const prompts = worldPrompts(6, 1, "train").map((text) => ({
      text,
      ids: Uint32Array.from(tokenizer.encode(text)),
    }));
    const reward = async (responses: readonly Sampled[]) => responses.map((r) => r.text.length);
    const options = { maxSteps: 2, raftBatchSize: 3, topRewardPercentage: 0.5, responseLength: 8 };
    const client = new OpenAIClient({ baseUrl: server.url });
    const sampler = remoteSampler({ client, model: "tiny", tokenizer });
    const losses = async (sampler?: Sampler) => {
      const found: number[] = [];
      server.lm.initialize(7);
      // The server samples from the very weights that are being trained.
      const trainer = trainRaft(
        { policy: server.lm, tokenizer, rewards: reward, sampler },
        { train: prompts },
        { ...options, topK: 1, numTrainEpochs: 1, learningRate: 1e-2, perDeviceTrainBatchSize: 2 },
      );
      for await (const event of trainer) if (event.type === "step") found.push(event.metrics.loss);
      return found;
    };
    const there = await losses(sampler);
    expect(there.length).toBe(2);
    expectClose(there, await losses(), 1e-4);
  });

  it("says how probable its responses were, to learn from an older policy's", async () => {
    const client = new OpenAIClient({ baseUrl: server.url });
    const source = remoteSource({ client, tokenizer, serve: async () => ({ model: "tiny" }) });
    const ids = prompts.map((prompt) => prompt.ids);
    const jobs = jobsOf(ids, [7, 8, 9], { ...options, measuredAt: 1, promptsPerJob: 1 });
    await source.publish(4, server.lm);
    const arrived: string[] = [];
    await source.request(4, jobs, { arrived: async ({ id }) => void arrived.push(id) });
    const results = await source.take(4);
    expect(results.map(({ id }) => id)).toEqual(["4/0", "4/1", "4/2"]);
    expect(arrived.sort()).toEqual(["4/0", "4/1", "4/2"]);
    const drawn = responsesOf(tokenizer, prompts, results, 2);
    const { logProbs } = await responseLogProbs(server.lm, drawn);
    drawn.forEach((response, i) => {
      expect(response.version).toBe(4);
      expectClose(response.logProbs as Float32Array, logProbs[i], 1e-4);
    });
    // Nobody asked, nobody knows.
    await source.request(4, jobsOf(ids, [7, 8, 9], { ...options, promptsPerJob: 1 }));
    expect((await source.take(4)).flatMap(({ responses }) => responses.map((r) => "logProbs" in r))).not.toContain(
      true,
    );
    await source.request(4, [{ ...jobs[0], measuredAt: 2 }]);
    await expect(source.take(4)).rejects.toThrow(/at the temperature 1, not 2/);
    await source.close?.();
  });

  it("takes text where a server knows no token ids", async () => {
    const client = new OpenAIClient({
      baseUrl: server.url,
      fetch: async (url, init) => {
        const body = JSON.parse(String(init?.body));
        if (body.return_token_ids) {
          return new Response('{"error": {"message": "Unrecognized request argument supplied: return_token_ids"}}', {
            status: 400,
          });
        }
        return fetch(url, init);
      },
    });
    const responses = await sampleRemotely({ client, model: "tiny", tokenizer }, prompts, [0, 1, 2], options);
    for (const { ids, promptLength, text, ended, prompt } of responses) {
      expect([...ids.subarray(0, promptLength)]).toEqual([...prompts[prompt].ids]);
      const own = ids.subarray(promptLength);
      expect(own.length).toBeLessThanOrEqual(10);
      expect(ended ? own.at(-1) === tokenizer.eosId : true).toBe(true);
      if (own.length < 10) expect(tokenizer.decode(own)).toBe(text);
    }
  });
});
