import type { Language } from "../../lib/language.ts";
import { en, type StudioWords } from "./en.ts";
import { zh } from "./zh.ts";

export const words: Record<Language, StudioWords> = { en, zh };
