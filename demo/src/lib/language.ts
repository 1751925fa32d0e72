/** The languages of the site, and addresses in them. */
export const languages = ["en", "zh"] as const;
export type Language = (typeof languages)[number];

export const languageNames: Record<Language, string> = { en: "English", zh: "中文" };

/** The language that a page's `[[lang=lang]]` names. */
export const languageOf = (lang: string | undefined): Language => (lang === "zh" ? "zh" : "en");

/** A word or sentence in every language. */
export type Text = Record<Language, string>;

/** The address of a page of the site in a language: `pathIn("zh", "lessons/ppo/")` is "/zh/lessons/ppo/". */
export const pathIn = (language: Language, page = ""): `/${string}` =>
  language === "en" ? `/${page}` : `/${language}/${page}`;
