import { describe, expect, it } from "vitest";
import { isUserError } from "webrlhf";
import { chooseDataFiles } from "../../src/io/dataset-card.ts";

const choose = (names: string[], part: { config?: string; split: string }, card: string | null = null) =>
  chooseDataFiles(names, card, part, "org/data");
const card = (yaml: string) => `---\nlicense: mit\n${yaml}\n---\n# Data\n`;
const failure = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => null,
    (e: Error) => e,
  );
  expect(error).toSatisfy(isUserError);
  return (error as Error).message;
};

describe("chooseDataFiles", () => {
  it("goes by the usual names", async () => {
    const names = [
      "README.md",
      "data/test-00000-of-00001.parquet",
      "data/train-00001-of-00002.parquet",
      "data/train-00000-of-00002.parquet",
    ];
    expect(await choose(names, { split: "train" })).toEqual([names[3], names[2]]);
    expect(await choose(names, { split: "test" })).toEqual([names[1]]);
    expect(await choose(["train.jsonl", "dev.jsonl"], { split: "validation" })).toEqual(["dev.jsonl"]);
    expect(await choose(["test/a.jsonl.gz", "train/a.jsonl.gz"], { split: "test" })).toEqual(["test/a.jsonl.gz"]);
    expect(await choose(["latest.jsonl", "contest.jsonl"], { split: "train" })).toEqual([
      "contest.jsonl",
      "latest.jsonl",
    ]);
    expect(await choose(["train_sft-0.parquet", "train_gen-0.parquet"], { split: "train_sft" })).toEqual([
      "train_sft-0.parquet",
    ]);
    expect(
      await choose(["en/train.json", "de/train.json", "dataset_infos.json"], { split: "train", config: "de" }),
    ).toEqual(["de/train.json"]);
    expect(await failure(choose(["train.jsonl"], { split: "test" }))).toMatch(
      /org\/data: there is no split "test"; it has train/,
    );
    expect(await failure(choose(["a.bin"], { split: "train" }))).toMatch(/no data files were found/);
    expect(await failure(choose(["a.arrow"], { split: "train" }))).toMatch(
      /a\.arrow is of a kind that is not read; known are/,
    );
  });

  it("goes by the card where it says more", async () => {
    const names = ["a/one.parquet", "a/two.parquet", "b/x.jsonl", "extra/deep/y.jsonl"];
    const text = card(
      "configs:\n- config_name: first\n  default: true\n  data_files:\n  - split: train\n    path: a/*.parquet\n  - split: test\n    path: [b/*, '**/y.jsonl']\n" +
        "- config_name: second\n  data_files: b/x.jsonl\n- config_name: third\n  data_files:\n    train: '{a,b}/*'",
    );
    expect(await choose(names, { split: "train" }, text)).toEqual(["a/one.parquet", "a/two.parquet"]);
    expect(await choose(names, { split: "test" }, text)).toEqual(["b/x.jsonl", "extra/deep/y.jsonl"]);
    expect(await choose(names, { split: "train", config: "second" }, text)).toEqual(["b/x.jsonl"]);
    expect(await choose(names, { split: "train", config: "third" }, text)).toEqual(names.slice(0, 3));
    expect(await failure(choose(names, { split: "train", config: "no" }, text))).toMatch(
      /there is no configuration "no"; there are: first, second, third/,
    );
    const several = card(
      "configs:\n- config_name: x\n  data_files: a/one.parquet\n- config_name: y\n  data_files: b/x.jsonl",
    );
    expect(await failure(choose(names, { split: "train" }, several))).toMatch(/choose one with dataset_config: x, y/);
    expect(await choose(["train.jsonl"], { split: "train" }, "# No front matter")).toEqual(["train.jsonl"]);
  });

  it("takes files of the folder only, and ends", async () => {
    for (const path of [
      "../../etc/passwd",
      "/etc/passwd",
      "a/../../x.jsonl",
      "..\\x.jsonl",
      "C:/x.jsonl",
      "https://x/y.jsonl",
      "file:///x.jsonl",
    ]) {
      const text = card(`configs:\n- config_name: default\n  data_files: ${JSON.stringify(path)}`);
      expect(await failure(choose(["train.jsonl"], { split: "train" }, text)), path).toMatch(
        /is outside the dataset's folder/,
      );
    }
    const slow = card(`configs:\n- config_name: default\n  data_files: "${"*a".repeat(50)}b"`);
    expect(await failure(choose([`${"a".repeat(900)}.jsonl`], { split: "train" }, slow))).toMatch(/too long/);
    const bomb = card(
      `a: &a [x]\n${Array.from({ length: 30 }, (_, i) => `k${i}: &k${i} [${Array(9).fill(i ? `*k${i - 1}` : "*a")}]`).join("\n")}`,
    );
    expect(await failure(choose(["train.jsonl"], { split: "train" }, bomb))).toMatch(/front matter is not YAML/);
    expect(await failure(choose(["train.jsonl"], { split: "train" }, card("a: [")))).toMatch(
      /README.md: its front matter is not YAML/,
    );
    expect(await failure(choose(["train.jsonl"], { split: "train" }, card("configs:\n- data_files: [1]")))).toMatch(
      /split|path/,
    );
    for (const odd of [
      "configs: 3",
      "configs: [null]",
      "configs: [{data_files: {train: null}}]",
      "configs: [{config_name: {}, data_files: x}]",
    ]) {
      await choose(["train.jsonl"], { split: "train" }, card(odd)).catch((error) =>
        expect(error).toSatisfy(isUserError),
      );
    }
  });
});
