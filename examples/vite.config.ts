/** Serves the page of `sft-in-the-browser.ts` (`npm run examples`). In a project of its own it needs no configuration. */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";
import { ownName } from "../scripts/own-name.ts";

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  resolve: { alias: ownName },
  server: { fs: { allow: [".."] } },
});
