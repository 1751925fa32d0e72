/** The whole built site: every address in it leads somewhere, and every page reads without JavaScript. */
import fs from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { builtSite } from "./built-page.ts";

let folder = "";
const pages = new Map<string, string>();

beforeAll(async () => {
  folder = await builtSite();
  for (const entry of fs.readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || !entry.name.endsWith(".html")) continue;
    const file = path.join(entry.parentPath, entry.name);
    pages.set(path.relative(folder, file).replaceAll(path.sep, "/"), fs.readFileSync(file, "utf8"));
  }
}, 300_000);

const attributes = (html: string, name: string) =>
  [...html.matchAll(new RegExp(`\\s${name}="([^"]*)"`, "g"))].map(([, value]) => value.replaceAll("&amp;", "&"));

/** The file that an address on a page means; null for one of another site. */
function target(page: string, href: string): { file: string; hash: string } | null {
  if (/^(https?|data|mailto):/.test(href)) return null;
  const url = new URL(href, `file:///${page}`);
  const name = decodeURIComponent(url.pathname.slice(1));
  return {
    file: name === "" || name.endsWith("/") ? `${name}index.html` : name,
    hash: decodeURIComponent(url.hash.slice(1)),
  };
}

describe("the built site", () => {
  it("has no address that leads nowhere", () => {
    const dead: string[] = [];
    for (const [page, html] of pages) {
      for (const href of [...attributes(html, "href"), ...attributes(html, "src")]) {
        const found = target(page, href);
        if (!found) continue;
        const { file, hash } = found;
        if (!fs.existsSync(path.join(folder, file))) dead.push(`${page}: ${href}`);
        else if (hash && file.endsWith(".html") && !attributes(pages.get(file) ?? "", "id").includes(hash)) {
          if (!hash.includes("=")) dead.push(`${page}: ${href} (no such place)`); // a run's settings are no place
        }
      }
    }
    expect(dead).toEqual([]);
    expect(pages.size).toBeGreaterThan(50);
  });

  it("has one heading of the first level, a title and a language on every page", () => {
    for (const [page, html] of pages) {
      expect(html.match(/<h1[\s>]/g), page).toHaveLength(1);
      expect(html, page).toMatch(/<title>[^<]+<\/title>/);
      expect(html, page).toContain(`<html lang="${page.startsWith("zh/") ? "zh" : "en"}"`);
    }
  });

  it("shows every lesson's text and a recorded run without JavaScript", () => {
    const lessons = [...pages].filter(([page]) => /^(zh\/)?lessons\//.test(page));
    expect(lessons.length).toBeGreaterThan(0);
    for (const [page, html] of lessons) {
      const body = html.replace(/<script[\s\S]*?<\/script>/g, "");
      expect(body.replace(/<[^>]+>/g, "").length, page).toBeGreaterThan(page.startsWith("zh/") ? 500 : 1500);
      expect(body.match(/data-check="[^"]+" data-state="passed"/g)?.length ?? 0, page).toBeGreaterThan(0);
    }
  });

  it("loads at most 90 kB of JavaScript, compressed, before the worker", () => {
    for (const [page, html] of pages) {
      const scripts = new Set([...html.matchAll(/(?:href|import\()="?([^"')]+\.js)/g)].map(([, src]) => src));
      let bytes = 0;
      for (const src of scripts) {
        const found = target(page, src);
        if (found) bytes += gzipSync(fs.readFileSync(path.join(folder, found.file))).length;
      }
      if (page !== "404.html") expect(bytes, page).toBeGreaterThan(0);
      expect(bytes, page).toBeLessThan(90_000);
    }
  });
});
