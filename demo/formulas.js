/**
 * Formulas in Markdown, `$…$` in a line and `$$…$$` on its own, become MathML while the site is built: nothing of KaTeX
 * is shipped, and screen readers read them.
 */
import katex from "katex";

const marked = /<tex-([id]) of="([0-9a-f]+)"><\/tex-\1>/g;
const mark = (kind, source) => `<tex-${kind} of="${Buffer.from(source.trim()).toString("hex")}"></tex-${kind}>`;

function mathml(kind, hex) {
  const options = { displayMode: kind === "d", output: "mathml", throwOnError: true, strict: "error" };
  const math = katex.renderToString(Buffer.from(hex, "hex").toString(), options);
  return math.replaceAll("{", "&#123;").replaceAll("}", "&#125;"); // braces are Svelte's
}

const ofMarkdown = (markup) => ({
  markup: ({ content, filename }) => (filename?.endsWith(".md") ? { code: markup(content) } : undefined),
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
  after: { name: "formulas-after", ...ofMarkdown((text) => text.replace(marked, (_, kind, hex) => mathml(kind, hex))) },
};
