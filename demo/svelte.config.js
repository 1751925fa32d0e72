import { fileURLToPath } from "node:url";
import adapter from "@sveltejs/adapter-static";
import { vitePreprocess } from "@sveltejs/vite-plugin-svelte";
import { mdsvex } from "mdsvex";
import { formulas } from "./formulas.js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** @type {import("@sveltejs/kit").Config} */
export default {
  extensions: [".svelte", ".md"],
  preprocess: [vitePreprocess(), formulas.before, mdsvex({ extensions: [".md"], smartypants: false }), formulas.after],
  kit: {
    adapter: adapter({ pages: process.env.DEMO_OUT ?? here("dist") }),
    alias: { webrlhf: here("../src"), "webrlhf/*": here("../src/*") },
    files: { src: here("src"), assets: here("static") },
    outDir: here(".svelte-kit"),
    paths: { relative: true }, // the built site works in any folder of any server
    prerender: {
      handleMissingId: ({ id, message }) => {
        if (!id.includes("=")) throw new Error(message); // a run's settings are no place
      },
    },
  },
};
