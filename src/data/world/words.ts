/**
 * The closed vocabulary of the built-in world and the little grammar its stories obey.
 * Objects come in classes, and each class has the one verb that makes sense with it.
 */

export const OPENERS = ["One day", "One night", "Today", "Once", "At home", "In spring"] as const;

export const BOYS = ["Tim", "Ben", "Sam", "Max", "Tom", "Leo"] as const;
const GIRLS = ["Lily", "Mia", "Anna", "Zoe", "Lucy", "Ella"] as const;
export const HEROES = [...BOYS, ...GIRLS] as const;

export const KINDS = ["cat", "dog", "fox", "bear", "duck", "frog", "mouse", "bird"] as const;
export const ADJECTIVES = ["red", "blue", "green", "big", "little", "new", "nice", "fine"] as const;
export const PLACES = ["park", "house", "lake", "shop", "barn", "school", "hill", "wood", "tree", "river"] as const;

/** Each verb of use with the objects it makes sense with. */
const USES = {
  played: ["ball", "kite", "doll", "drum"],
  ate: ["cake", "pear", "soup", "pie"],
  wore: ["hat", "coat", "scarf", "mask"],
  read: ["book", "map", "card", "letter"],
} as const;

export type UseVerb = keyof typeof USES;
export const USE_VERBS = Object.keys(USES) as UseVerb[];
export const OBJECTS: string[] = Object.values(USES).flat();

/** The verb of use that makes sense with an object. */
export function useVerbOf(object: string): UseVerb {
  return USE_VERBS.find((verb) => (USES[verb] as readonly string[]).includes(object)) as UseVerb;
}

export const MOVES = ["went", "ran", "walked"] as const;
export const GETS = ["found", "got", "saw", "made", "took"] as const;
export const HAPPY_ADJECTIVES = ["happy", "glad", "proud", "merry", "calm"] as const;
export const HAPPY_VERBS = ["smiled", "laughed", "danced", "sang", "cheered"] as const;
export const SAD_ADJECTIVES = ["sad", "mad", "hurt", "cross"] as const;
export const SAD_VERBS = ["cried", "fell", "frowned", "shouted"] as const;
/** Kind deeds done to somebody; "shared" is the one done with the object. */
export const KIND_VERBS = ["hugged", "thanked", "helped"] as const;
export const PEOPLE = ["mom", "dad"] as const;

/** Which classes of words may follow a class. "start" and "end" are the edges of a sentence. */
const FOLLOWS: Record<string, string> = {
  start: "name pronoun next itSubject",
  name: "move get use played happyVerb sadVerb kindVerb shared was sat slept",
  pronoun: "move get use played happyVerb sadVerb kindVerb shared was sat slept",
  next: "itObject lowPronoun",
  lowPronoun: "slept sat",
  itSubject: "was",
  move: "to",
  to: "the",
  the: "adjective object place",
  adjective: "object",
  object: "end and at with",
  place: "end and",
  and: "get use played happyVerb happyAdjective sadVerb sadAdjective kindVerb shared was sat slept",
  get: "the itObject",
  use: "the itObject",
  played: "with",
  with: "the itObject a person",
  itObject: "end and with at was",
  at: "the",
  a: "friend",
  friend: "end and",
  person: "end and",
  kindVerb: "person a",
  shared: "itObject the",
  was: "happyAdjective sadAdjective late night",
  happyAdjective: "end and",
  happyVerb: "end and",
  sadAdjective: "end and",
  sadVerb: "end and",
  sat: "down",
  down: "end and",
  slept: "end and",
  late: "end",
  night: "end",
};

const CLASSES: Record<string, readonly string[]> = {
  name: HEROES,
  pronoun: ["He", "She"],
  lowPronoun: ["he", "she"],
  next: ["Then"],
  itSubject: ["It"],
  itObject: ["it"],
  move: MOVES,
  to: ["to"],
  the: ["the"],
  adjective: ADJECTIVES,
  object: OBJECTS,
  place: PLACES,
  and: ["and"],
  get: GETS,
  use: ["ate", "wore", "read"],
  played: ["played"],
  with: ["with"],
  at: ["at"],
  a: ["a"],
  friend: ["friend"],
  person: PEOPLE,
  kindVerb: KIND_VERBS,
  shared: ["shared"],
  was: ["was"],
  happyAdjective: HAPPY_ADJECTIVES,
  happyVerb: HAPPY_VERBS,
  sadAdjective: SAD_ADJECTIVES,
  sadVerb: SAD_VERBS,
  sat: ["sat"],
  down: ["down"],
  slept: ["slept"],
  late: ["late"],
  night: ["night"],
};

/** The class of every word that may stand in a completion. */
export const CLASS_OF: ReadonlyMap<string, string> = new Map(
  Object.entries(CLASSES).flatMap(([name, words]) => words.map((word) => [word, name] as const)),
);

const ALLOWED = new Set(Object.entries(FOLLOWS).flatMap(([a, list]) => list.split(" ").map((b) => `${a} ${b}`)));

/** Whether a word of class `b` may follow one of class `a`; unknown words (undefined) never may. */
export function mayFollow(a: string | undefined, b: string | undefined): boolean {
  return ALLOWED.has(`${a} ${b}`);
}

/** Every word of the world: those that begin a text, and those that follow a space. */
export function vocabulary(): { first: string[]; later: string[] } {
  const first = new Set(OPENERS.map((opener) => opener.split(" ")[0]));
  const later = new Set(OPENERS.flatMap((opener) => opener.split(" ").slice(1)));
  for (const word of [...CLASS_OF.keys(), ...KINDS, "wanted"]) later.add(word);
  return { first: [...first], later: [...later] };
}
