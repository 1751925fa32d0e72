/** The folder of a training server: one server's at a time, and cleared of what a killed one left. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startServer } from "../../src/serve/server.ts";
import { Checkpoints } from "../../src/serve/train/checkpoints.ts";
import { type TinyTraining, TrainingClient, tinyTraining } from "./training-client.ts";

let tiny: TinyTraining;
beforeAll(async () => {
  tiny = await tinyTraining();
});
afterAll(() => tiny.stop());

const start = (folder: string, port = 0) =>
  startServer(tiny.opened.model, { port, training: { ...tiny.training, folder } });

it("is one server's until that is closed", async () => {
  await expect(start(tiny.folder)).rejects.toThrow(/--train_folder .*saved: another run \(process \d+\)/);
  const other = join(tiny.folder, "..", "other");
  const first = await start(other);
  await expect(start(other)).rejects.toThrow(/another run/);
  await first.close(0);
  // One that cannot listen has it no longer than that takes.
  await expect(start(other, tiny.server.port)).rejects.toThrow(/cannot listen/);
  await (await start(other)).close(0);
});

it("holds nothing that a killed server did not finish or that was a sampling client's, and lists no such thing", async () => {
  const folder = join(tiny.folder, "..", "left");
  const run = "01234567-89ab-cdef-0123-456789abcdef:train:0";
  const checkpoints = new Checkpoints(tiny.training.files, folder, 9);
  const about = {
    base: "tiny",
    rank: 4,
    trainAttn: true,
    trainMlp: true,
    created: 0,
    expires: null,
    userMetadata: null,
    runMetadata: null,
  };
  const save = (name: string, passing = false) =>
    checkpoints.write({ run, kind: "sampler_weights", name }, {}, { ...about, passing });
  await save("named");
  await save("client-000000001", true);
  await save("named.partial-123");
  const server = await start(folder);
  const names = () => readdir(join(folder, run.replaceAll(":", "-"), "sampler_weights"));
  expect(await names()).toEqual(["named"]);
  await save("named.partial-123");
  const { json } = await new TrainingClient(server.url).send("GET", "checkpoints");
  expect(json.checkpoints).toMatchObject([{ checkpoint_id: "sampler_weights/named" }]);
  await server.close(0);
});
