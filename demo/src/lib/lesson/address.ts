/** What decides a run, in a link: its size class, its seed, and what the visitor asked otherwise. */
import * as v from "valibot";
import type { Language } from "../language.ts";
import { said } from "../said.ts";
import { classSchema } from "./class-seed.ts";
import type { Json, Size } from "./types.ts";

export interface Address {
  size: Size;
  seed: number;
  /** Fields of the lesson's input that differ from its own. */
  asked: Record<string, Json>;
}

/** What a teacher's link can leave out of the lesson's page. */
export const hideable = ["size", "seed", "recordings"] as const;
export type Hideable = (typeof hideable)[number];

/** A teacher's link: in place of a seed it names the class, and each student gets a seed. */
export interface Group {
  class: string;
  hide: readonly Hideable[];
}

const json: v.GenericSchema<Json> = v.lazy(() =>
  v.union([v.string(), v.number(), v.boolean(), v.null(), v.array(json), v.record(v.string(), json)]),
);

const sizes = v.picklist(["S", "M", "L"], said({ en: "size is S, M or L", zh: "size 应为 S、M 或 L" }));

/** An address as it is saved with a run. */
export const addressSchema: v.GenericSchema<Address> = v.object({
  size: sizes,
  seed: v.pipe(v.number(), v.integer(), v.minValue(0)),
  asked: v.record(v.string(), json),
});

const schema = v.object({
  size: v.optional(sizes),
  seed: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^\d{1,9}$/, said({ en: "seed is a whole number of at most 9 digits", zh: "seed 应为至多 9 位的整数" })),
      v.transform(Number),
    ),
  ),
  ask: v.optional(
    v.pipe(
      v.string(),
      v.maxLength(2000, said({ en: "ask is too long", zh: "ask 过长" })),
      v.parseJson(undefined, said({ en: "ask is no JSON", zh: "ask 不是 JSON" })),
      v.record(v.string(), json),
    ),
  ),
  class: v.optional(classSchema),
  hide: v.optional(
    v.pipe(
      v.string(),
      v.transform((text) => [...new Set(text.split(","))]),
      v.array(
        v.picklist(
          hideable,
          said({ en: `hide is some of ${hideable.join(", ")}`, zh: `hide 只能含有 ${hideable.join("、")}` }),
        ),
      ),
    ),
  ),
});

/** "#size=S&seed=42" */
export function addressOf({ size, seed, asked }: Address): string {
  const out = new URLSearchParams({ size, seed: String(seed) });
  if (Object.keys(asked).length > 0) out.set("ask", JSON.stringify(asked));
  return `#${out}`;
}

/** "#class=3b&hide=seed&size=S": a link for a whole class, with no seed in it. */
export function groupAddressOf({ size, asked }: Omit<Address, "seed">, { class: name, hide }: Group): string {
  const out = new URLSearchParams({ class: name, size });
  if (hide.length > 0) out.set("hide", hide.join(","));
  if (Object.keys(asked).length > 0) out.set("ask", JSON.stringify(asked));
  return `#${out}`;
}

/** What a link says; what it does not say is missing. */
export type Read = Partial<Omit<Address, "asked">> & Pick<Address, "asked"> & { group?: Group };

/** What is said of a link that cannot be. */
export const damaged = {
  en: {
    link: (why: readonly string[]) => `This link is damaged: ${why.join("; ")}.`,
    seed: "a class's link has no seed, for each student gets one",
    hides: "only a class's link hides something",
    private: (name: string) => `${name} are never in a link`,
    input: (what: string) => `its settings are none of this lesson's (${what})`,
  },
  zh: {
    link: (why: readonly string[]) => `这个链接已损坏:${why.join(";")}。`,
    seed: "班级链接里没有随机种子,每个学生会得到自己的",
    hides: "只有班级链接才能隐藏内容",
    private: (name: string) => `链接里从不含 ${name}`,
    input: (what: string) => `它的设置不属于这一课(${what})`,
  },
};

/**
 * Reads a link's hash; what it does not say is missing.
 * @throws Error with words where it says something that cannot be
 */
export function readAddress(hash: string, language: Language = "en"): Read {
  const words = damaged[language];
  const given = Object.fromEntries(new URLSearchParams(hash.replace(/^#/, "")));
  const { issues, output } = v.safeParse(schema, given, { lang: language });
  if (issues) throw new Error(words.link(issues.map(({ message }) => message)));
  const { size, seed, ask, class: name, hide } = output as v.InferOutput<typeof schema>;
  if (name !== undefined && seed !== undefined) {
    throw new Error(words.link([words.seed]));
  }
  if (name === undefined && hide) throw new Error(words.link([words.hides]));
  return {
    ...(size && { size }),
    ...(seed !== undefined && { seed }),
    asked: ask ?? {},
    ...(name !== undefined && { group: { class: name, hide: hide ?? [] } }),
  };
}
