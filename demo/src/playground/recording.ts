/** Runs made earlier: what a worker said of them, packed small, and the way back. */
import { exhibitOf } from "./exhibits.ts";
import type { Knobs, Reply, Stage } from "./protocol.ts";
import { applyReply, curve, emptyView, gain, type View } from "./view.ts";

/** Consecutive steps of one stage, a list for each metric. */
interface Steps {
  type: "steps";
  stage: Stage;
  from: number;
  maxSteps: number;
  metrics: Record<string, number[]>;
}

/** Both rewards' gains, by step, in a run that differs only in its seed. */
export interface OtherSeed {
  seed: number;
  reward: number[];
  gold: number[];
}

export interface Recording {
  knobs: Knobs;
  replies: (Reply | Steps)[];
  others: OtherSeed[];
}

/** A recording as the page shows it. */
export interface Recorded {
  readonly knobs: Knobs;
  readonly view: View;
  readonly others: readonly OtherSeed[];
}

/** What the page shows of steps and of looks at the held-out prompts; the rest would only make the recording large. */
const ofStep: Record<string, readonly string[]> = { reward: ["accuracy"], policy: ["reward", "gold", "kl"] };
const ofLook = /^(reward|gold)(_std|_change|_change_error)?$|^(kl|prompts|eval_accuracy|noise_ceiling)$/;

/** Leaves out what the page does not show, and puts steps together. */
export function pack(replies: readonly Reply[]): (Reply | Steps)[] {
  const packed: (Reply | Steps)[] = [];
  for (const [i, reply] of replies.entries()) {
    if (reply.type === "samples") {
      const later = replies.slice(i + 1).some((r) => r.type === "samples" && r.when === reply.when);
      if (!later) packed.push(reply);
    } else if (reply.type !== "event") packed.push(reply);
    else if (reply.event.type === "step") addStep(packed, reply.stage, reply.event);
    else if (reply.event.type === "eval") {
      const metrics = Object.fromEntries(Object.entries(reply.event.metrics).filter(([name]) => ofLook.test(name)));
      packed.push({ ...reply, event: { type: "eval", step: reply.event.step, metrics } });
    } else if (reply.event.type === "start") packed.push(reply);
  }
  return packed;
}

interface Step {
  step: number;
  maxSteps: number;
  metrics: Record<string, number>;
}

function addStep(packed: (Reply | Steps)[], stage: Stage, { step, maxSteps, metrics }: Step): void {
  let last = packed.at(-1);
  if (last?.type !== "steps" || last.stage !== stage) {
    last = { type: "steps", stage, from: step, maxSteps, metrics: {} };
    packed.push(last);
  }
  for (const name of ofStep[stage] ?? []) {
    last.metrics[name] ??= [];
    last.metrics[name].push(metrics[name]);
  }
}

function* unpacked(packed: readonly (Reply | Steps)[]): Generator<Reply> {
  for (const reply of packed) {
    if (reply.type !== "steps") {
      yield reply;
      continue;
    }
    const { stage, from, maxSteps } = reply;
    const columns = Object.entries(reply.metrics);
    for (let i = 0; i < columns[0][1].length; i++) {
      const metrics = Object.fromEntries(columns.map(([name, values]) => [name, values[i]]));
      const step = { type: "step", step: from + i, maxSteps, epoch: 0, metrics, tokens: 0, seconds: 0 } as const;
      yield { type: "event", stage, event: step };
    }
  }
}

/** What a worker said, as a view. */
export function viewOf(packed: readonly (Reply | Steps)[]): View {
  const view = emptyView();
  for (const reply of unpacked(packed)) applyReply(view, reply);
  return view;
}

export const opened = ({ knobs, replies, others }: Recording): Recorded => ({ knobs, view: viewOf(replies), others });

/** A run in the few numbers that a band needs. */
export function otherSeed(seed: number, view: View): OtherSeed {
  const gains = (name: "reward" | "gold") => curve(view.policy, name).map(([, y]) => gain(view, name, y) ?? 0);
  return { seed, reward: gains("reward"), gold: gains("gold") };
}

/** The recording that answers the knobs' question; else the nearest one there is. */
export function recordingFor(knobs: Knobs, recordings: readonly Recorded[]): Recorded | null {
  const exhibit = exhibitOf(knobs);
  return (
    recordings.find((r) => exhibit && exhibitOf(r.knobs) === exhibit) ??
    recordings.find((r) => r.knobs.algorithm === knobs.algorithm) ??
    null
  );
}
