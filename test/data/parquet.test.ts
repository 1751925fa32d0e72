import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { isUserError } from "webrlhf";
import { type DataRecord, type DataSource, readRecords } from "webrlhf/data";
import type { Leaf } from "../../src/data/parquet/footer.ts";
import { converter } from "../../src/data/parquet/meaning.ts";
import { parquetRows } from "../../src/data/parquet.ts";
import { bytesFile } from "../../src/runtime/open.ts";
import { parquetCase } from "../mutations/parquet-cases.ts";

const path = (name: string) => fileURLToPath(new URL(`./fixtures/parquet/${name}.parquet`, import.meta.url));
const read = async (source: DataSource, limit?: number) => {
  const records: DataRecord[] = [];
  for await (const record of readRecords(source, { ...(limit && { limit }) })) records.push(record);
  return records;
};

const values = async (bytes: Uint8Array) => {
  const rows: Record<string, unknown>[] = [];
  for await (const row of parquetRows(bytesFile(bytes), "x")) rows.push(row.value as Record<string, unknown>);
  return rows;
};

describe("Parquet files", () => {
  it.each(["none", "snappy", "gzip", "brotli", "zstd"])("hold conversations: %s", async (codec) => {
    const records = await read(path(codec));
    expect(records).toHaveLength(60);
    expect(records[33]).toEqual({
      kind: "prompt_completion",
      prompt: "\n\nHuman: Question 33? ü🙂\n\nAssistant:",
      completion: ` ${"Answer 33.".repeat(6)}`,
      where: `${path(codec)}, row 34`,
    });
    expect(await read(path(codec), 30)).toHaveLength(30);
  });

  it("hold numbers, lists and nulls", async () => {
    const rows = await values(readFileSync(path("zstd")));
    expect(rows[3]).toMatchObject({ id: 3, score: 1.5, tags: [], tools: null });
    expect(rows[59]).toMatchObject({ id: 59, tags: ["a", "a"] });
  });

  it("come from a page's file too; columns of nulls do not count", async () => {
    const bytes = readFileSync(path("prompts"));
    const source = { name: "x.parquet", stream: () => new Blob([bytes]).stream() };
    expect(await read(source)).toMatchObject([
      { kind: "prompt_completion", prompt: "a", completion: " one" },
      { prompt: "b", completion: " two" },
    ]);
  });

  it("have no values in columns of nulls", () => {
    const leaf = { type: "INT32", meaning: "NULL", path: "small" } as Leaf;
    expect(() => converter(leaf)(3)).toThrow("a value where the schema says that there are only nulls");
  });

  it("have no lists that go on with items which are not there", async () => {
    await expect(values(parquetCase(202 * 1_000_003 + 6246))).rejects.toThrow("goes on with an item that is not there");
  });

  it("are refused where the newer field says something that is not known, whatever the older one says", async () => {
    await expect(values(parquetCase(203 * 1_000_003 + 4535))).rejects.toThrow(
      "what the values of when mean is not known",
    );
  });

  it("say what whole numbers are in the newer field, where the older one says that they are dates", async () => {
    expect((await values(parquetCase(202 * 1_000_003 + 6877))).map((row) => row.small).slice(0, 3)).toEqual([0, 1, 2]);
  });

  it("are refused with a clear word when they are damaged", async () => {
    const folder = await mkdtemp(join(tmpdir(), "webrlhf-parquet-"));
    const whole = readFileSync(path("snappy"));
    let state = 1;
    const random = () => {
      state = (state * 48271) % 2147483647;
      return state;
    };
    try {
      for (let i = 0; i < 60; i++) {
        const bytes = i % 2 ? Buffer.from(whole) : whole.subarray(0, random() % whole.length);
        if (i % 2) for (let k = 0; k < 3; k++) bytes[random() % bytes.length] = random();
        const file = join(folder, "x.parquet");
        await writeFile(file, bytes);
        await read(file).catch((error) => expect(error).toSatisfy(isUserError));
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
