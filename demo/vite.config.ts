import { sveltekit } from "@sveltejs/kit/vite";
import { defineConfig, type Plugin } from "vite";
import { ownName } from "../scripts/own-name.ts";

/** Files of `src` that only Node and Deno reach, through a lazy import, and with them Node's own modules. */
const elsewhere =
  /\/src\/(cluster\/node-transport|gpu\/(adapter-node|software)|runtime\/(claim|embedded|folders|hub-disk))\.ts$/;

/**
 * What every lesson needs, in one file: forty small ones are a tenth larger when they are compressed each for itself. There
 * are nine lessons in two languages, and each is an entry of its own.
 */
const ofAllLessons: Plugin = {
  name: "of-all-lessons",
  applyToEnvironment: ({ name }) => name === "client",
  outputOptions: (output) => ({
    ...output,
    codeSplitting: { groups: [{ name: "lessons", minShareCount: 18 }] },
  }),
};

/** Leaves out of the page what it never loads. */
const browserOnly: Plugin = {
  name: "browser-only",
  enforce: "pre",
  applyToEnvironment: ({ name }) => name === "client",
  resolveId: (id) => (id.startsWith("node:") ? { id: "\0node", moduleSideEffects: false } : null),
  load: (id) => (id === "\0node" || elsewhere.test(id) ? "export {};" : null),
};

export default defineConfig({
  plugins: [browserOnly, ofAllLessons, sveltekit()],
  worker: { format: "es", plugins: () => [browserOnly] },
  resolve: { alias: ownName },
  server: { fs: { allow: [".."] } },
  build: { target: "es2023", assetsInlineLimit: 0 }, // the model's files stay files
});
