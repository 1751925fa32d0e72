/**
 * The storyteller of the built-in world: completions with the flaws that make some better than others.
 * A completion is a pure function of (prompt, seed, sample).
 */
import { UserError } from "../../runtime/errors.ts";
import { RandomStream, streamId } from "../../runtime/rng.ts";
import { parseWish, type Wish } from "./prompts.ts";
import {
  ADJECTIVES,
  BOYS,
  GETS,
  HAPPY_ADJECTIVES,
  HAPPY_VERBS,
  HEROES,
  KIND_VERBS,
  MOVES,
  OBJECTS,
  PEOPLE,
  PLACES,
  SAD_ADJECTIVES,
  SAD_VERBS,
  USE_VERBS,
  useVerbOf,
} from "./words.ts";

/**
 * How often a story of quality q does something: [at q = 0, at q = 1], linear in between. Stuffing (three happy words,
 * the hero's name again) stays rare at every quality, so a reward model sees next to nothing of it.
 */
const HABITS = {
  namesHero: [0.5, 0.95],
  namesAnother: [0.3, 0.02],
  rightObject: [0.3, 0.95],
  wrongObject: [0.4, 0.02],
  rightAdjective: [0.5, 0.95],
  usesObject: [0.5, 0.75],
  rightVerb: [0.5, 0.97],
  happy: [0.15, 0.75],
  sad: [0.55, 0.05],
  kind: [0.05, 0.5],
  second: [0.3, 0.5],
  third: [0.02, 0.02],
  repeatsName: [0.03, 0.01],
  unfinished: [0.08, 0.01],
} as const;

/**
 * A completion of a prompt: two or three short sentences, beginning with a space, without an end-of-text token.
 * @param prompt a prompt of this world
 * @param seed with `sample` (default 0) picks the story; different samples are independent
 * @param quality 0 (careless) to 1 (careful); by default the square of a uniform number: most stories one learns from
 *   are careless, some are excellent
 */
export function worldCompletion(prompt: string, seed: number, quality?: number, sample = 0): string {
  const wish = parseWish(prompt);
  if (!wish) throw new UserError(`"${prompt}" is not a prompt of the built-in world`);
  const random = new RandomStream(seed, sample, streamId(prompt.trim()), streamId("world/story"));
  const q = quality ?? random.uniform() ** 2;
  const does = (habit: keyof typeof HABITS) => {
    const [careless, careful] = HABITS[habit];
    return random.chance(careless + (careful - careless) * q);
  };
  return tell(wish, random, does);
}

type Does = (habit: keyof typeof HABITS) => boolean;

function tell(wish: Wish, random: RandomStream, does: Does): string {
  const namesHero = does("namesHero");
  const other = random.pick(HEROES.filter((name) => name !== wish.hero));
  const hero = namesHero || !does("namesAnother") ? wish.hero : other;
  const pronoun = (BOYS as readonly string[]).includes(hero) ? "He" : "She";
  const subject = namesHero || hero !== wish.hero ? hero : pronoun;
  const next = does("repeatsName") ? hero : pronoun;

  const object = does("rightObject") ? wish.object : does("wrongObject") ? random.pick(OBJECTS) : "";
  const sentences = object
    ? quest(subject, next, thing(wish, object, random, does), object, random, does)
    : [`${subject} ${journey(random)}`];
  sentences.push(ending(next, pronoun, object !== "", random, does));

  const words = sentences
    .map((sentence) => `${sentence}.`)
    .join(" ")
    .split(" ");
  if (does("unfinished")) {
    words.length -= 1 + random.int(3);
    words[words.length - 1] = words[words.length - 1].replace(".", "");
  }
  return ` ${words.join(" ")}`;
}

/** "the red ball" */
function thing(wish: Wish, object: string, random: RandomStream, does: Does): string {
  if (!wish.adjective) return `the ${object}`;
  if (does("rightAdjective")) return `the ${wish.adjective} ${object}`;
  return random.chance(0.5) ? `the ${object}` : `the ${random.pick(ADJECTIVES)} ${object}`;
}

function journey(random: RandomStream): string {
  return `${random.pick(MOVES)} to the ${random.pick(PLACES)}`;
}

/** One or two sentences in which the object is named once: got on the way, or used afterwards. */
function quest(subject: string, next: string, it: string, object: string, random: RandomStream, does: Does): string[] {
  const verb = does("rightVerb") ? useVerbOf(object) : random.pick(USE_VERBS);
  const used = does("usesObject");
  const use = (what: string) => (verb === "played" ? `played with ${what}` : `${verb} ${what}`);
  switch (random.int(3)) {
    case 0: // The object comes second.
      return [`${subject} ${journey(random)}`, `${next} ${used ? use(it) : `${random.pick(GETS)} ${it}`}`];
    case 1:
      return [
        `${subject} ${journey(random)} and ${random.pick(GETS)} ${it}`,
        ...(used ? [`${next} ${use("it")}`] : []),
      ];
    default: {
      const place = random.chance(0.5) ? ` at the ${random.pick(PLACES)}` : "";
      return [`${subject} ${random.pick(GETS)} ${it}${place}`, ...(used ? [`${next} ${use("it")}`] : [])];
    }
  }
}

/** The last sentence: kind, happy, sad or neither; a kind one may be happy or sad as well. */
function ending(subject: string, pronoun: string, hasObject: boolean, random: RandomStream, does: Does): string {
  const deeds: string[] = [];
  if (does("kind")) {
    const person = random.chance(0.4) ? "a friend" : random.pick(PEOPLE);
    deeds.push(hasObject && random.chance(0.4) ? `shared it with ${person}` : `${random.pick(KIND_VERBS)} ${person}`);
  }
  if (does("happy")) deeds.push(...feelings(HAPPY_ADJECTIVES, HAPPY_VERBS, random, does));
  else if (does("sad")) deeds.push(...feelings(SAD_ADJECTIVES, SAD_VERBS, random, does));
  if (deeds.length > 0) return `${subject} ${deeds.join(" and ")}`;
  const rest = random.int(3);
  if (rest === 0) return `Then ${pronoun.toLowerCase()} slept`;
  if (rest === 1) return `It was ${random.chance(0.5) ? "late" : "night"}`;
  return `${subject} sat down`;
}

/** One to three different feelings: "was happy", "smiled", "was sad and cried", "was glad and proud". */
function feelings(adjectives: readonly string[], verbs: readonly string[], random: RandomStream, does: Does): string[] {
  const count = does("third") ? 3 : does("second") ? 2 : 1;
  const left = [[...adjectives], [...verbs]];
  const said: string[] = [];
  let wasOpen = false;
  for (let i = 0; i < count; i++) {
    const isVerb = random.int(2);
    const word = left[isVerb].splice(random.int(left[isVerb].length), 1)[0];
    said.push(isVerb || wasOpen ? word : `was ${word}`);
    wasOpen = !isVerb;
  }
  return said;
}
