/** The verbs by purpose. Each is loaded when it is asked for, so that one verb's work does not wait for the others. */
import { settingNamed } from "../../settings/index.ts";
import type { Verb } from "../verb.ts";

type Loader = () => Promise<Verb>;
type Groups = Record<string, Record<string, Loader>>;

/** Verbs that are no training methods, in the order of `--help`. */
const others: Groups = {
  "Use models": {
    generate: async () => (await import("./generate.ts")).generateVerb,
    chat: async () => (await import("./chat.ts")).chatVerb,
    serve: async () => (await import("./serve.ts")).serveVerb,
    score: async () => (await import("./score.ts")).scoreVerb,
    annotate: async () => (await import("./annotate.ts")).annotateVerb,
    pairs: async () => (await import("./pairs.ts")).pairsVerb,
  },
  "Measure and show": {
    evaluate: async () => (await import("./evaluate.ts")).evaluateVerb,
    report: async () => (await import("./report.ts")).reportVerb,
    export: async () => (await import("./export.ts")).exportVerb,
    figure: async () => (await import("./figure.ts")).figureVerb,
  },
  "Data and model files": {
    data: async () => (await import("./data.ts")).dataVerb,
    tokenizer: async () => (await import("./tokenizer.ts")).tokenizerVerb,
    merge: async () => (await import("./merge.ts")).mergeVerb,
    convert: async () => (await import("./convert.ts")).convertVerb,
  },
};

/** Methods whose verb does more than train. */
const special: Record<string, Loader> = { raft: async () => (await import("./raft.ts")).raftVerb() };

const registered: Record<string, { verb: Verb; heading: string }> = {};

/** The training methods' verbs. */
async function training(): Promise<Groups> {
  const { methodVerbs } = await import("../train.ts");
  const verbs = Object.entries(methodVerbs()).map(([heading, group]): [string, Record<string, Loader>] => {
    const loaders = Object.entries(group).map(([name, verb]): [string, Loader] => [name, special[name] ?? verb]);
    return [heading, Object.fromEntries(loaders)];
  });
  return Object.fromEntries(verbs);
}

/** Adds a verb of one's own, or takes the place of one: it appears in `--help` and in recipes. Returns what undoes it. */
export function registerVerb(verb: Verb, heading = "Plugins"): () => void {
  registered[verb.name] = { verb, heading };
  return () => delete registered[verb.name];
}

/** Loaders of all verbs by heading, in the order of `--help`. */
export async function verbGroups(): Promise<Groups> {
  const groups: Groups = {};
  for (const [heading, group] of Object.entries({ ...(await training()), ...others })) {
    groups[heading] = Object.fromEntries(Object.entries(group).filter(([name]) => !Object.hasOwn(registered, name)));
  }
  for (const [name, { verb, heading }] of Object.entries(registered)) {
    groups[heading] = { ...groups[heading], [name]: async () => verb };
  }
  return groups;
}

/** Every verb's name. */
export const verbNames = async (): Promise<string[]> => Object.values(await verbGroups()).flatMap(Object.keys);

/** Loads a verb; null for a name that is none. */
export async function loadVerb(name: string): Promise<Verb | null> {
  if (Object.hasOwn(registered, name)) return registered[name].verb;
  const find = (groups: Groups) => Object.values(groups).find((group) => Object.hasOwn(group, name))?.[name];
  const load = find(others) ?? find(await training());
  return load ? load() : null;
}

/** Says which verbs have an option of a name. Loads all of them. */
export async function optionOwners(): Promise<(name: string) => readonly string[]> {
  const verbs = (await Promise.all((await verbNames()).map(loadVerb))).filter((verb) => verb !== null);
  return (option) =>
    verbs.filter(({ settings }) => settingNamed(settings.table, option) !== null).map(({ name }) => name);
}
