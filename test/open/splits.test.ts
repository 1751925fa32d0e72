// Splits and configurations of what has none: as in Python's datasets, all of it is "train".
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDataset } from "webrlhf/open";

const row = { prompt: "a", completion: " b" };
let folder: string;
let file: string;
let module: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "webrlhf-splits-"));
  file = join(folder, "pairs.jsonl");
  module = join(folder, "rows.mjs");
  await writeFile(file, `${JSON.stringify(row)}\n`);
  await writeFile(module, `export default ${JSON.stringify([row])};`);
});
afterAll(() => rm(folder, { recursive: true }));

const kinds = {
  "a file": () => file,
  "a module of rows": () => module,
  rows: () => [row],
};

describe.each(Object.entries(kinds))("%s", (_, data) => {
  it('has the split "train", which may be asked for', async () => {
    const { train } = await openDataset(data(), { datasetTrainSplit: "train" }).records(null);
    expect(train).toHaveLength(1);
  });

  it("has no other split, and no configuration", async () => {
    for (const [options, message] of [
      [{ datasetTestSplit: "test" }, /split "test" cannot be chosen from/],
      [{ datasetTrainSplit: "validation" }, /split "validation" cannot be chosen from/],
      [{ datasetConfig: "en" }, /; datasetConfig is for folders and datasets on the hub/],
    ] as const) {
      await expect(openDataset(data(), options).records(null)).rejects.toThrow(message);
    }
  });
});

it("a file that is held out is taken whole, whatever split is trained on", async () => {
  const split = join(folder, "splits");
  await mkdir(split);
  await writeFile(join(split, "validation.jsonl"), `${JSON.stringify(row)}\n`);
  const held = openDataset(split, { datasetTrainSplit: "validation", evalDatasetName: file });
  expect((await held.records(null)).eval).toHaveLength(1);
  expect((await openDataset(file, { evalDatasetName: file }).records(null)).eval).toHaveLength(1);
});

it("made-up data have two splits and no configuration", () => {
  expect(() => openDataset("builtin:world", { datasetTestSplit: "test" })).not.toThrow();
  expect(() => openDataset("builtin:world", { datasetTestSplit: "dev" })).toThrow('"dev" were chosen');
  expect(() => openDataset("builtin:world", { datasetConfig: "en" })).toThrow("datasetConfig is for folders");
});
