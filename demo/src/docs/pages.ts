/** The repository's own pages, read while the site is built. */
import { parse } from "yaml";

const raw = (files: Record<string, unknown>) => files as Record<string, string>;
const guides = raw(
  import.meta.glob(["../../../docs/*.md", "../../../docs/results/*.md", "../../../docs/results/lessons/*.md"], {
    query: "?raw",
    import: "default",
    eager: true,
  }),
);
const readme = raw(import.meta.glob("../../../README.md", { query: "?raw", import: "default", eager: true }));
const references = raw(import.meta.glob("../../../api/*.api.md", { query: "?raw", import: "default", eager: true }));
const recipes = raw(import.meta.glob("../../../recipes/**/*.yaml", { query: "?raw", import: "default", eager: true }));
const examples = raw(import.meta.glob("../../../examples/*.ts", { query: "?raw", import: "default", eager: true }));
const pictures = raw(
  import.meta.glob("../../../docs/results/*.svg", { query: "?url", import: "default", eager: true }),
);

/** A page of the docs. */
export interface DocPage {
  /** Its address below docs/: "trl", "recipes/raft"; empty: the first. */
  path: string;
  title: string;
  group: "Guides" | "Results" | "Recipes" | "Examples" | "API reference";
  /** In Markdown, with links as they stand in the repository. */
  text: string;
  /** The file in the repository, for its relative links. */
  file: string;
}

const inRepository = (path: string): string => path.replace(/^(\.\.\/)+/, "");
const titleOf = (text: string): string => /^# (.+)$/m.exec(text)?.[1].replaceAll("`", "") ?? "";
const bare = (file: string): string =>
  file.replace(/^(docs|api|recipes|examples)\//, "").replace(/(\.api)?\.(md|yaml|ts)$/, "");
const fenced = (language: string, text: string): string => `\`\`\`${language}\n${text.trimEnd()}\n\`\`\``;

/** The figure that a recipe made, where there is one. */
const figureOf = (name: string): string => {
  const has = Object.keys(pictures).some((path) => path.endsWith(`/docs/results/${name}.svg`));
  return has
    ? `![What the recipe ${name} found](../docs/results/${name}.svg)\n\nNumbers and their story: [results](../docs/results/README.md).\n`
    : "";
};

function* found(): Generator<DocPage> {
  for (const [path, text] of Object.entries(readme)) {
    yield { path: "", title: titleOf(text), group: "Guides", text, file: inRepository(path) };
  }
  for (const [path, text] of Object.entries(guides)) {
    const file = inRepository(path);
    const results = file.startsWith("docs/results/");
    const name = bare(file).replace(/^results\/README$/, "results");
    yield { path: name, title: titleOf(text), group: results ? "Results" : "Guides", text, file };
  }
  for (const [path, text] of Object.entries(recipes)) {
    const file = inRepository(path);
    const name = bare(file);
    const { description = "" } = parse(text) as { description?: string };
    const body = `# ${name}\n\n${description}\n\n${fenced("sh", `webrlhf run ${name}`)}\n\n${figureOf(name)}\n${fenced("yaml", text)}`;
    yield { path: `recipes/${name}`, title: name, group: "Recipes", text: body, file };
  }
  for (const [path, text] of Object.entries(examples)) {
    if (path.endsWith("config.ts")) continue;
    const file = inRepository(path);
    const name = bare(file);
    yield {
      path: `examples/${name}`,
      title: name,
      group: "Examples",
      text: `# ${name}\n\n${fenced("ts", text)}`,
      file,
    };
  }
  for (const [path, text] of Object.entries(references)) {
    const file = inRepository(path);
    yield { path: `api/${bare(file)}`, title: titleOf(text), group: "API reference", text, file };
  }
}

export const docPages: readonly DocPage[] = [...found()];

/** The page made of a file of the repository. */
export const pageOfFile = (file: string): DocPage | undefined => docPages.find((page) => page.file === file);

/** The address of a picture of the repository. */
export const pictureOf = (file: string): string | undefined =>
  Object.entries(pictures).find(([path]) => inRepository(path) === file)?.[1];
