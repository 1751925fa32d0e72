/** All pieces of the docs, for the search: fetched when somebody searches. */
import { json } from "@sveltejs/kit";
import { docPages } from "../../docs/pages.ts";
import { pieces } from "../../docs/render.ts";

export const prerender = true;
export const trailingSlash = "never";
export const GET = () => json(docPages.flatMap(pieces));
