/** The repository's Markdown as HTML, and as pieces to search. */
import { Marked, type Token, type Tokens } from "marked";
import { type DocPage, pageOfFile, pictureOf } from "./pages.ts";

/** A part of a page under one heading. */
export interface Piece {
  /** The address below docs/, with its anchor. */
  id: string;
  page: string;
  title: string;
  text: string;
}

/** As repositories' hosts make anchors of headings. */
export const anchor = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[`*]/g, "")
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replace(/\s/g, "-");

/** A relative link as the path of a file in the repository. */
const resolved = (from: string, href: string): string => new URL(href, `file:///${from}`).pathname.slice(1);

const escaped = (text: string): string => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/**
 * @param href the address of a page of the docs
 * @returns HTML; links to files that are no pages become their names
 */
export function rendered(page: DocPage, href: (path: string) => string): string {
  let tables = 0;
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth, text }) {
        return `<h${depth} id="${escaped(anchor(text))}">${this.parser.parseInline(tokens)}</h${depth}>\n`;
      },
      link({ href: target, tokens }) {
        const inner = this.parser.parseInline(tokens);
        if (/^https?:/.test(target)) return `<a href="${escaped(target)}">${inner}</a>`;
        if (target.startsWith("#")) return `<a href="${escaped(target)}">${inner}</a>`;
        const [file, hash] = target.split("#");
        const path = resolved(page.file, file);
        const found = pageOfFile(path) ?? pageOfFile(`${path.replace(/\/$/, "")}/README.md`);
        if (found) return `<a href="${escaped(href(found.path) + (hash ? `#${hash}` : ""))}">${inner}</a>`;
        return `${inner} (<code>${escaped(path)}</code>)`;
      },
      image({ href: target, text }) {
        const picture = pictureOf(resolved(page.file, target));
        return picture ? `<img src="${escaped(picture)}" alt="${escaped(text)}" loading="lazy" />` : escaped(text);
      },
      table(token) {
        const cell = (tag: string, { tokens }: Tokens.TableCell) =>
          `<${tag}>${this.parser.parseInline(tokens)}</${tag}>`;
        const head = token.header.map((c) => cell("th", c)).join("");
        const rows = token.rows.map((row) => `<tr>${row.map((c) => cell("td", c)).join("")}</tr>`).join("\n");
        return `<div class="wide" role="region" aria-label="Table ${++tables}" tabindex="0"><table><thead><tr>${head}</tr></thead><tbody>${rows}</tbody></table></div>\n`;
      },
      code({ text, lang }) {
        return `<pre tabindex="0"><code data-language="${escaped(lang ?? "")}">${escaped(text)}</code></pre>\n`;
      },
      html: ({ text }) => escaped(text),
    },
  });
  return marked.parse(page.text, { async: false });
}

/** Parts of a page for the search, one for each heading. */
export function pieces(page: DocPage): Piece[] {
  const found: Piece[] = [{ id: page.path, page: page.title, title: page.title, text: "" }];
  for (const token of new Marked().lexer(page.text)) {
    if (token.type === "heading" && token.depth > 1) {
      found.push({ id: `${page.path}#${anchor(token.text)}`, page: page.title, title: token.text, text: "" });
    } else if (token.type !== "heading") found[found.length - 1].text += `${wordsOf(token)} `;
  }
  const seen = new Set<string>();
  return found.filter(({ id }) => !seen.has(id) && seen.add(id)); // a heading may stand twice: the first has the anchor
}

const wordsOf = (token: Token): string =>
  "raw" in token ? token.raw.replace(/[|`*#]/g, " ").replace(/\s+/g, " ") : "";
