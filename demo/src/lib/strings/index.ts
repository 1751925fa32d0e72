import type { Language } from "../language.ts";
import { en, type Strings } from "./en.ts";
import { zh } from "./zh.ts";

export type { Strings } from "./en.ts";
export const strings: Record<Language, Strings> = { en, zh };
