import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { expect, it } from "vitest";
// @ts-expect-error a script without types
import { count, HELD, openResults, SEEDS } from "../../scripts/site/tables.mjs";

it("replaces the rows that were measured anew, keeps the others, and counts over all", async () => {
  const root = await fs.mkdtemp(path.join(os.tmpdir(), "webrlhf-site-"));
  await fs.mkdir(path.join(root, "docs/results"), { recursive: true });
  const open = () => openResults(root, ["sft", "dpo"]);
  const first = await open();
  first.put(SEEDS, [
    ["dpo", 10, "falls", "passed", "3 | 4"],
    ["dpo", 9, "falls", "failed", ""],
    ["sft", 9, "rises", "passed", "by 1"],
  ]);
  count(first);
  await first.write();
  const again = await open();
  again.put(SEEDS, [["dpo", 9, "falls", "passed", "now"]]);
  count(again);
  await again.write();
  const { rows } = await open();
  expect(rows.get(SEEDS)).toEqual([
    ["sft", "9", "rises", "passed", "by 1"],
    ["dpo", "9", "falls", "passed", "now"],
    ["dpo", "10", "falls", "passed", "3 | 4"],
  ]);
  expect(rows.get(HELD)).toEqual([
    ["sft", "rises", "1 of 1"],
    ["dpo", "falls", "2 of 2"],
  ]);
  await fs.rm(root, { recursive: true });
});
