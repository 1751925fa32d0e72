/**
 * Formulas in Markdown, `$…$` in a line and `$$…$$` on its own, become MathML while the site is built: nothing of KaTeX
 * is shipped, and screen readers read them.
 */
import katex from "katex";

const marked = /<tex-([id]) of="([0-9a-f]+)"><\/tex-\1>/g;
const mark = (kind, source) => `<tex-${kind} of="${Buffer.from(source.trim()).toString("hex")}"></tex-${kind}>`;

function mathml(kind, hex, filename) {
  const options = { displayMode: kind === "d", output: "mathml", throwOnError: true, strict: "error" };
  const math = katex.renderToString(Buffer.from(hex, "hex").toString(), options);
  if (kind === "i") return math.replaceAll("{", "&#123;").replaceAll("}", "&#125;"); // braces are Svelte's
  // On a narrow screen it scrolls in its place, by keys, too.
  const name = /[/\\]zh\.md$/.test(filename) ? "公式" : "formula";
  return `{@html ${JSON.stringify(`<span class="formula" role="group" aria-label="${name}" tabindex="0">${math}</span>`)}}`;
}

const ofMarkdown = (markup) => ({
  markup: ({ content, filename }) => (filename?.endsWith(".md") ? { code: markup(content, filename) } : undefined),
});

/** Preprocessors of Svelte's to stand around the one for Markdown, which would take a formula for text. */
export const formulas = {
  before: {
    name: "formulas-before",
    ...ofMarkdown((text) =>
      text
        .replace(/\$\$([^$]+)\$\$/g, (_, source) => mark("d", source))
        .replace(/\$([^$\n]+)\$/g, (_, source) => mark("i", source)),
    ),
  },
  after: {
    name: "formulas-after",
    ...ofMarkdown((text, filename) => text.replace(marked, (_, kind, hex) => mathml(kind, hex, filename))),
  },
};
