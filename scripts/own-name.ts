import path from "node:path";

const src = path.resolve(import.meta.dirname, "..", "src");

/** Lets the package's own name mean its source wherever Vite resolves imports: in tests, the demo and scripts. */
export const ownName = [
  { find: /^webrlhf$/, replacement: path.join(src, "index.ts") },
  { find: /^webrlhf\/(\w+)$/, replacement: path.join(src, "$1", "index.ts") },
];
