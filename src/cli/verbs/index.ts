/** The verbs by purpose. Each is loaded when it is asked for, so that one verb's work does not wait for the others. */
import type { Method } from "../../open/index.ts";
import type { Verb } from "../verb.ts";

type Loader = () => Promise<Verb>;

const method =
  (name: string): Loader =>
  async () => {
    const [{ methods }, { trainingVerb }] = await Promise.all([import("../../open/methods.ts"), import("../train.ts")]);
    return trainingVerb((methods as Record<string, Method>)[name]);
  };

/** Loaders in the order of `--help`. */
export const verbGroups: Record<string, Record<string, Loader>> = {
  "Train on examples": { sft: method("sft") },
  "Train rewards": {
    reward: method("reward"),
    cost: method("cost"),
    pairwise: method("pairwise"),
    "multi-objective": method("multi-objective"),
  },
  "Train policies on rewards": {
    ppo: method("ppo"),
    grpo: method("grpo"),
    rloo: method("rloo"),
    reinforce: method("reinforce"),
    raft: async () => (await import("./raft.ts")).raftVerb(),
    iterate: method("iterate"),
  },
  "Train policies on preferences": {
    dpo: method("dpo"),
    kto: method("kto"),
    orpo: method("orpo"),
    cpo: method("cpo"),
  },
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
    figure: async () => (await import("./figure.ts")).figureVerb,
  },
  "Data and model files": {
    data: async () => (await import("./data.ts")).dataVerb,
    tokenizer: async () => (await import("./tokenizer.ts")).tokenizerVerb,
    merge: async () => (await import("./merge.ts")).mergeVerb,
    convert: async () => (await import("./convert.ts")).convertVerb,
  },
};

/** Adds a verb of one's own, or takes the place of one: it appears in `--help` and in recipes. */
export function registerVerb(verb: Verb, heading = "Plugins"): void {
  for (const group of Object.values(verbGroups)) delete group[verb.name];
  verbGroups[heading] = { ...verbGroups[heading], [verb.name]: async () => verb };
}

/** Every verb's name. */
export const verbNames = (): string[] => Object.values(verbGroups).flatMap((group) => Object.keys(group));

/** Loads a verb; null for a name that is none. */
export async function loadVerb(name: string): Promise<Verb | null> {
  const group = Object.values(verbGroups).find((one) => Object.hasOwn(one, name));
  return group ? group[name]() : null;
}
