import { error } from "@sveltejs/kit";
import { recordingsOf, slugs } from "../../../../lib/lesson/registry.ts";

/** The lesson's recorded runs go into the page itself: it reads without JavaScript and shows something at once. */
export const load = async ({ params: { slug } }: { params: { slug: string } }) => {
  if (!slugs.includes(slug)) error(404, `There is no lesson ${slug}.`);
  return { slug, recordings: await recordingsOf(slug) };
};
