/** `webrlhf label`: hands out pairs of answers to people, who say in pages which one is better. */
import { hostname } from "node:os";
import { clusterAccess } from "../../cluster/access.ts";
import { connectCluster } from "../../cluster/connection.ts";
import { LabelDesk, type LabelTask, type TakenVote } from "../../cluster/label-desk.ts";
import { checkLabelJob, type ShownMessage } from "../../cluster/label-messages.ts";
import type { ChatMessage } from "../../data/chat-template.ts";
import { readComparedPairs } from "../../data/compared.ts";
import {
  type ComparedPair,
  namesOf,
  type PersonsVote,
  preferenceLines,
  type VotedPair,
  voteFigures,
  voteLines,
} from "../../data/votes.ts";
import { data, logging, seed } from "../../rlhf/settings.ts";
import { diskFiles, type Files } from "../../runtime/files.ts";
import { uint32 } from "../../runtime/rng.ts";
import { group, settings } from "../../settings/index.ts";
import { clusterSettings } from "../cluster-settings.ts";
import { patiently } from "../join-cluster.ts";
import { LabelLog } from "../label-log.ts";
import { short } from "../progress.ts";
import { type Context, defineVerb, Interrupted } from "../verb.ts";
import { summaries } from "./summaries.ts";

const people = group("People");
const { cluster, creds } = clusterSettings("label");

const labelSettings = settings("label", {
  inputFile: data.list(null, "Files of prompts with two or more responses, as generate writes them, or of pairs", {
    required: true,
    aka: ["dataset_name_or_path"],
  }),
  labelsPerPair: people.int(1, "People who label each pair", { min: 1, max: 100 }),
  maxSamples: people.int(null, "Take this many pairs; default: all", { min: 1 }),
  labellersPerLink: people.int(100, "People who may label by one invitation; labels of more are not taken", { min: 1 }),
  minutes: people.float(null, "Minutes after which what is labelled is written; 0 writes what is there; default: all", {
    min: 0,
  }),
  seed,
  outputFile: logging.path(null, "Where the pairs that a majority decided go: JSON lines of prompt, chosen, rejected", {
    required: true,
  }),
  votesFile: logging.path(null, "Where everybody's decisions go, a line each with who said it; default: nowhere"),
  resume: logging.bool(true, "Go on with the labels that are there of the same pairs"),
  cluster: { ...cluster, required: true },
  creds: { ...creds, required: true },
});

type Options = ReturnType<typeof labelSettings>;

export const labelVerb = defineVerb({
  name: "label",
  summary: summaries.label,
  settings: labelSettings,
  argument: ["inputFile"],
  examples: [
    "webrlhf label answers.jsonl --output_file labels.jsonl --cluster nats://127.0.0.1:4222 --creds cluster/trainer.creds",
    "webrlhf label pairs.jsonl --labels_per_pair 3 --output_file labels.jsonl --votes_file votes.jsonl --cluster nats://127.0.0.1:4222 --creds cluster/trainer.creds",
  ],
  interruptNote: "\ntaking back what waits; the same command goes on from there",
  product: (o) => ({ file: o.outputFile as string }),
  async run(o, context) {
    const { terminal, signal } = context;
    const say = (line: string) => terminal.line(line);
    const files = await diskFiles();
    const { pairs, same } = await readComparedPairs(o.inputFile as string[], o.maxSamples ?? undefined);
    if (same > 0) say(`${same} pairs have two equal answers and are left out`);
    const tasks = tasksOf(pairs, o);
    for (const { job } of tasks.slice(0, pairs.length)) checkLabelJob(job);
    const path = o.outputFile as string;
    const log = await LabelLog.open<PersonsVote>(files, path, decisive(pairs, o), o.resume);
    if (log.votes.size > 0) say(`${log.votes.size} of ${tasks.length} labels were given before`);
    const left = tasks.filter(({ number }) => !log.votes.has(number));
    const over = o.minutes === null ? signal : AbortSignal.any([signal, AbortSignal.timeout(60_000 * o.minutes)]);
    if (left.length > 0 && o.minutes !== 0) {
      await collect(o, { log, left, all: tasks.length }, context, over).catch(async (error) => {
        if (log.votes.size === 0) await log.remove();
        throw error;
      });
    }
    const rest = tasks.length - log.votes.size;
    if (rest > 0 && signal.aborted) {
      throw new Interrupted(`stopped; ${log.votes.size} labels are in ${log.path}; the same command goes on there`);
    }
    await write(o, votedPairs(pairs, log.votes), { files, say });
    if (rest === 0) await log.remove();
    else say(`${rest} of ${tasks.length} labels are missing: the same command goes on, with what is in ${log.path}`);
  },
});

/** Labels that are wanted: every pair once, then every pair again, so that no pair waits for its first one. */
function tasksOf(pairs: readonly ComparedPair[], { labelsPerPair, seed }: Options): LabelTask[] {
  return Array.from({ length: labelsPerPair }, (_, vote) =>
    pairs.map(({ prompt, answers }, pair): LabelTask => {
      const first = firstOf(seed, pair, vote);
      return {
        number: vote * pairs.length + pair,
        job: {
          id: `${pair}/${vote}`,
          pair,
          prompt: typeof prompt === "string" ? prompt : prompt.map(shownMessage),
          first: answers[first],
          second: answers[1 - first],
        },
      };
    }),
  ).flat();
}

/** Which answer lies first: by lot, and the other way round for the pair's next labeller. */
const firstOf = (seed: number, pair: number, vote: number): 0 | 1 => (((uint32(seed, pair) & 1) + vote) % 2) as 0 | 1;

const shownMessage = ({ role, content }: ChatMessage): ShownMessage => ({ role, content: textIn(content) });

/** What of a message's content is text. */
function textIn(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  const parts = content as { type?: unknown; text?: unknown }[];
  return parts.map(({ type, text }) => (typeof text === "string" ? text : `[${String(type ?? "?")}]`)).join("\n");
}

/** What decides the labels: the pairs, how often each is labelled, and which answer lies first. */
function* decisive(pairs: readonly ComparedPair[], { labelsPerPair, seed }: Options) {
  yield [labelsPerPair, seed];
  yield* pairs;
}

interface Work {
  log: LabelLog<PersonsVote>;
  left: LabelTask[];
  all: number;
}

/** Has people label what is left, and says how far they are. */
async function collect(o: Options, { log, left, all }: Work, { terminal, label }: Context, signal: AbortSignal) {
  const say = (line: string) => terminal.line(line);
  const pairs = all / o.labelsPerPair;
  const access = await clusterAccess(o.cluster as string, o.creds as string);
  const desk = await patiently(async () => {
    const connection = await connectCluster(access, `webrlhf label ${log.run}`);
    const who = `${hostname()} ${process.pid}`;
    const options = { run: log.run, who, say, mostLabellers: o.labellersPerLink };
    return LabelDesk.open(connection, options).catch(async (error) => {
      await connection.nc.close();
      throw error;
    });
  }, say);
  const often = o.labelsPerPair === 1 ? "" : `, each by ${o.labelsPerPair} people`;
  say(
    `${pairs} ${pairs === 1 ? "pair waits" : "pairs wait"} in the cluster ${o.cluster}${often}; pages join by webrlhf cluster invite NAME --labels`,
  );
  let told = -1;
  const tell = async () => {
    if (log.votes.size === told) return;
    told = log.votes.size;
    const tables = await desk.onTables();
    const now = tables ? `, ${tables} pairs before somebody` : "";
    const line = `${told} of ${all} labels, by ${desk.labellers} ${desk.labellers === 1 ? "person" : "people"}${now}`;
    say(`${terminal.style("cyan", label)}: ${line}`);
  };
  const telling = setInterval(() => void tell(), TELL_MS);
  const keep = ({ number, job: { pair } }: LabelTask, { who, name, choice, seconds }: TakenVote) => {
    const first = firstOf(o.seed, pair, Math.floor(number / pairs));
    const better = choice === "none" ? null : choice === "first" ? first : ((1 - first) as 0 | 1);
    return log.add(number, { who, name, better, first, seconds });
  };
  const before = [...log.votes].map(([number, { who }]) => ({ pair: number % pairs, who }));
  try {
    await desk.collect({ tasks: left, before, keep, signal });
  } finally {
    clearInterval(telling);
    await desk.close();
  }
  const { double, refused, askedAgain } = desk.counts;
  if (double + refused > 0)
    say(`${double} labels more than were wanted, ${refused} that were none; ${askedAgain} asked for again`);
}

/** Milliseconds between two lines of how far people are. */
const TELL_MS = 10_000;

/** Pairs with what was said of them, in the order in which they lay there. */
function votedPairs(pairs: readonly ComparedPair[], votes: ReadonlyMap<number, PersonsVote>): VotedPair[] {
  const of = pairs.map((pair): { pair: ComparedPair; votes: PersonsVote[] } => ({ pair, votes: [] }));
  for (const [number, vote] of [...votes].sort(([a], [b]) => a - b)) of[number % pairs.length].votes.push(vote);
  return of;
}

async function write(o: Options, voted: VotedPair[], { files, say }: { files: Files; say: (line: string) => void }) {
  const names = namesOf(voted);
  if (o.votesFile !== null) await files.writeFile(o.votesFile, voteLines(voted, names));
  await files.writeFile(o.outputFile as string, preferenceLines(voted, names));
  const {
    votes,
    people: count,
    none,
    decided,
    undecided,
    agreement,
    comparisons,
    kappa,
    firstPlace,
  } = voteFigures(voted);
  say(
    `${o.outputFile}: ${decided} pairs decided, by ${votes} labels of ${count} people` +
      `${undecided > 0 ? `; ${undecided} have no majority and are left out` : ""}${none > 0 ? `; ${none} times nobody could say` : ""}`,
  );
  if (comparisons > 0) {
    say(`two people say the same in ${percent(agreement)} of ${comparisons} comparisons, kappa ${short(kappa)}`);
  }
  if (votes > none) say(`the answer that lay first was chosen in ${percent(firstPlace)} of ${votes - none} decisions`);
}

const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
