/** The verbs by purpose. Each is loaded when it is asked for, so that one verb's work does not wait for the others. */
import { type MethodName, methodNames } from "../../open/methods/names.ts";
import { settingNamed } from "../../settings/index.ts";
import type { Verb } from "../verb.ts";
import { summaries } from "./summaries.ts";

type Loader = () => Promise<Verb>;

/** A verb in a list: what it does, and how it is loaded. */
interface Listed {
  readonly summary: string;
  readonly load: Loader;
}
type Groups = Record<string, Record<string, Listed>>;

/** Verbs that are no training methods, in the order of `--help`. */
const others = {
  "Use models": {
    generate: async () => (await import("./generate.ts")).generateVerb,
    chat: async () => (await import("./chat.ts")).chatVerb,
    serve: async () => (await import("./serve.ts")).serveVerb,
    score: async () => (await import("./score.ts")).scoreVerb,
    annotate: async () => (await import("./annotate.ts")).annotateVerb,
    label: async () => (await import("./label.ts")).labelVerb,
    pairs: async () => (await import("./pairs.ts")).pairsVerb,
  },
  "Measure and show": {
    evaluate: async () => (await import("./evaluate.ts")).evaluateVerb,
    watch: async () => (await import("./watch.ts")).watchVerb,
    control: async () => (await import("./control.ts")).controlVerb,
    report: async () => (await import("./report.ts")).reportVerb,
    export: async () => (await import("./export.ts")).exportVerb,
    figure: async () => (await import("./figure.ts")).figureVerb,
    "gpu-day": async () => (await import("./gpu-day.ts")).gpuDayVerb,
    tune: async () => (await import("./tune.ts")).tuneVerb,
  },
  "Data and model files": {
    data: async () => (await import("./data.ts")).dataVerb,
    tokenizer: async () => (await import("./tokenizer.ts")).tokenizerVerb,
    merge: async () => (await import("./merge.ts")).mergeVerb,
    convert: async () => (await import("./convert.ts")).convertVerb,
    push: async () => (await import("./push.ts")).pushVerb,
  },
  "Several machines": {
    worker: async () => (await import("./worker.ts")).workerVerb,
    "serve-environment": async () => (await import("./serve-environment.ts")).serveEnvironmentVerb,
    cluster: async () => (await import("./cluster.ts")).clusterVerb,
  },
} satisfies Record<string, { [N in keyof typeof summaries]?: Loader }>;

/** Methods whose verb does more than train. */
const special: { [N in MethodName]?: Loader } = { raft: async () => (await import("./raft.ts")).raftVerb() };

const training = (name: MethodName): Loader =>
  special[name] ?? (async () => (await import("../train.ts")).methodVerb(name));

function* builtin(): Generator<[heading: string, name: string, Listed]> {
  for (const [heading, group] of Object.entries(methodNames)) {
    for (const [name, summary] of Object.entries(group))
      yield [heading, name, { summary, load: training(name as MethodName) }];
  }
  for (const [heading, group] of Object.entries(others)) {
    for (const [name, load] of Object.entries(group)) {
      yield [heading, name, { summary: summaries[name as keyof typeof summaries], load }];
    }
  }
}

const registered: Record<string, { verb: Verb; heading: string }> = {};

/** Adds a verb of one's own, or takes the place of one: it appears in `--help` and in recipes. Returns what undoes it. */
export function registerVerb(verb: Verb, heading = "Plugins"): () => void {
  registered[verb.name] = { verb, heading };
  return () => delete registered[verb.name];
}

/** All verbs by heading, in the order of `--help`. */
export function verbGroups(): Groups {
  const groups: Groups = {};
  for (const [heading, name, listed] of builtin()) {
    groups[heading] ??= {};
    if (!Object.hasOwn(registered, name)) groups[heading][name] = listed;
  }
  for (const [name, { verb, heading }] of Object.entries(registered)) {
    groups[heading] = { ...groups[heading], [name]: { summary: verb.summary, load: async () => verb } };
  }
  return groups;
}

/** Every verb's name. */
export const verbNames = (): string[] => Object.values(verbGroups()).flatMap(Object.keys);

/** Loads a verb; null for a name that is none. */
export async function loadVerb(name: string): Promise<Verb | null> {
  const group = Object.values(verbGroups()).find((group) => Object.hasOwn(group, name));
  return group ? group[name].load() : null;
}

/** Says which verbs have an option of a name. Loads all of them. */
export async function optionOwners(): Promise<(name: string) => readonly string[]> {
  const verbs = (await Promise.all(verbNames().map(loadVerb))).filter((verb) => verb !== null);
  return (option) =>
    verbs.filter(({ settings }) => settingNamed(settings.table, option) !== null).map(({ name }) => name);
}
