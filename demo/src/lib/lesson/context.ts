/** What a lesson's parts share: the run, and the language. */
import { getContext, setContext } from "svelte";
import type { Language } from "../language.ts";
import type { Strings } from "../strings/index.ts";
import type { LessonRun } from "./run.svelte.ts";

export interface LessonPage {
  run: LessonRun;
  language: Language;
  words: Strings;
}

const key = Symbol("lesson");

export const offer = (page: () => LessonPage): void => void setContext(key, page);

/** A function, because the language may change while the page stands: call it inside `$derived`. */
export const lessonPage = (): (() => LessonPage) => getContext(key);
