/** The lessons there are. Each is loaded on its own, so that a page fetches one of them. */
import type { Component } from "svelte";
import type { Language } from "../language.ts";
import type { Lesson, Recording } from "./types.ts";

const folder = (path: string): string => path.split("/").at(-2) as string;
const bySlug = <T>(modules: Record<string, T>): Map<string, T> =>
  new Map(Object.entries(modules).map(([path, module]) => [folder(path), module]));

const definitions = bySlug(import.meta.glob<{ lesson: Lesson }>("../../lessons/*/lesson.ts"));
const texts: Record<Language, Map<string, () => Promise<{ default: Component }>>> = {
  en: bySlug(import.meta.glob<{ default: Component }>("../../lessons/*/en.md")),
  zh: bySlug(import.meta.glob<{ default: Component }>("../../lessons/*/zh.md")),
};
const recordings = bySlug(import.meta.glob<{ default: Recording[] }>("../../lessons/*/recordings.json"));

export const slugs: readonly string[] = [...definitions.keys()];

/** A lesson's definition; null where there is none of that name. */
export const lessonOf = async (slug: string): Promise<Lesson | null> =>
  (await definitions.get(slug)?.())?.lesson ?? null;

/** A lesson's text with its figures, in a language; in English where it is not translated. */
export async function textOf(slug: string, language: Language): Promise<Component> {
  const load = texts[language].get(slug) ?? texts.en.get(slug);
  if (!load) throw new Error(`src/lessons/${slug} has no en.md`);
  return (await load()).default;
}

/** Runs of a lesson made earlier. */
export const recordingsOf = async (slug: string): Promise<Recording[]> =>
  (await recordings.get(slug)?.())?.default ?? [];
