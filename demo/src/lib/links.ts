/** Addresses within the site, which may lie in any folder of a server. */
import { resolve } from "$app/paths";
import { type Language, pathIn } from "./language.ts";

/** Where a page of the site is in a language: `link("zh", "lessons/ppo/")`. */
export const link = (language: Language, page = ""): string => resolve(pathIn(language, page) as "/"); // its type knows the routes, not their parameters' values
