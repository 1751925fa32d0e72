/** Tables of results in one Markdown file: each run replaces the rows that it measured anew and keeps the others. */
import fs from "node:fs/promises";

/**
 * @typedef {object} Section
 * @property {string} title its heading
 * @property {string} text stands before the table
 * @property {string[]} columns
 * @property {number} keys so many cells from the left name a row
 */

const cellsOf = (line) =>
  line
    .slice(1, -1)
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll("\\|", "|"));
const lineOf = (cells) => `| ${cells.map((cell) => String(cell).replaceAll("|", "\\|")).join(" | ")} |`;
const sameKey = (a, b, keys) => a.slice(0, keys).every((cell, i) => cell === String(b[i]));

export class Results {
  /** Rows by the section's title. */
  rows = new Map();

  /**
   * @param {string} file
   * @param {string} heading stands before all sections
   * @param {Section[]} sections
   * @param {string[]} order of the first cells
   */
  constructor(file, heading, sections, order = []) {
    Object.assign(this, { file, heading, sections, order });
    for (const { title } of sections) this.rows.set(title, []);
  }

  /** Takes the rows that the file has. */
  async read() {
    const text = await fs.readFile(this.file, "utf8").catch(() => "");
    for (const { title, columns } of this.sections) {
      const part = text.split(/^## /m).find((part) => part.startsWith(`${title}\n`)) ?? "";
      const rows = part.split("\n").filter((line) => line.startsWith("| "));
      const all = rows.slice(1).map(cellsOf); // after the names of the columns
      this.rows.set(
        title,
        all.filter((row) => row.length === columns.length),
      );
    }
    return this;
  }

  /** Puts rows in the place of those of the same names. */
  put(title, rows) {
    const { keys } = this.sections.find((section) => section.title === title);
    const kept = this.rows.get(title).filter((old) => !rows.some((row) => sameKey(old, row, keys)));
    const place = ([name]) => this.order.indexOf(name);
    const sorted = [...kept, ...rows.map((row) => row.map(String))].sort((a, b) => {
      const differs = a.slice(0, keys).findIndex((cell, i) => cell !== b[i]);
      if (differs <= 0) return place(a) - place(b);
      return a[differs].localeCompare(b[differs], "en", { numeric: true });
    });
    this.rows.set(title, sorted);
  }

  /** The whole file. Sections without rows are left out. */
  text() {
    const parts = [this.heading];
    for (const { title, text, columns } of this.sections) {
      const rows = this.rows.get(title);
      if (rows.length === 0) continue;
      const rule = `|${columns.map(() => "---|").join("")}`;
      parts.push(`## ${title}\n\n${text}\n\n${[lineOf(columns), rule, ...rows.map(lineOf)].join("\n")}`);
    }
    return `${parts.join("\n\n")}\n`;
  }

  /** Whole or not at all, so that a run that is stopped loses nothing. */
  async write() {
    await fs.writeFile(`${this.file}.part`, this.text());
    await fs.rename(`${this.file}.part`, this.file);
  }
}
