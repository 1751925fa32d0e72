/** A browser's place for what was found of its adapter. */
import { expect, it } from "vitest";
import { tuningInBrowser } from "../../src/gpu/tuning-browser.ts";

const inBrowser = typeof indexedDB !== "undefined";

it.runIf(inBrowser)("keeps one tuning for each adapter, the last one", async () => {
  const [one, other] = ["test adapter", "another test adapter"].map((name) => tuningInBrowser(name));
  if (!one || !other) throw new Error("no place");
  expect(await one.read()).toBeNull();
  await one.write({ adapter: "a", products: [1] });
  await one.write({ adapter: "a", products: [1, 2] });
  expect(await tuningInBrowser("test adapter")?.read()).toEqual({ adapter: "a", products: [1, 2] });
  expect(await other.read()).toBeNull();
  indexedDB.deleteDatabase("webrlhf-kernels");
});

it.runIf(!inBrowser)("is no place elsewhere", () => {
  expect(tuningInBrowser("test adapter")).toBeUndefined();
});
