import { error } from "@sveltejs/kit";
import { docPages } from "../../../../docs/pages.ts";
import { rendered } from "../../../../docs/render.ts";
import { languageOf } from "../../../../lib/language.ts";
import { link } from "../../../../lib/links.ts";

export const entries = () => docPages.flatMap(({ path }) => [{ page: path }, { page: path, lang: "zh" }]);

export const load = ({ params }: { params: { lang?: string; page: string } }) => {
  const language = languageOf(params.lang);
  const found = docPages.find(({ path }) => path === params.page.replace(/\/$/, ""));
  if (!found) error(404, `There is no page ${params.page} in the docs.`);
  const href = (path: string) => link(language, path === "" ? "docs/" : `docs/${path}/`);
  const groups = [...new Set(docPages.map(({ group }) => group))];
  return {
    title: found.title,
    html: rendered(found, href),
    path: found.path,
    groups: groups.map((name) => ({
      name,
      pages: docPages
        .filter(({ group }) => group === name)
        .map(({ path, title }) => ({ path, title: path === "" ? "Start" : title })),
    })),
  };
};
