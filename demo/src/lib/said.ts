/** Messages of schemas in the reader's language. */
import type * as v from "valibot";
import { languageOf, type Text } from "./language.ts";

/** A schema's message, in the language that it is read in: `v.safeParse(schema, value, { lang: "zh" })`; without one in English. */
export const said =
  (text: Text) =>
  ({ lang }: v.BaseIssue<unknown>): string =>
    text[languageOf(lang)];
