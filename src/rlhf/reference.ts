/**
 * The reference of preference training: the policy as it should stay. A frozen model; the policy itself with its adapter
 * off, which costs no memory; or log-probabilities that were computed once, after which no reference is needed.
 */
import type { CausalLM } from "../nn/models.ts";
import { UserError } from "../runtime/errors.ts";
import { effective, group, needs, type ResolvedSettings, spelled } from "../settings/index.ts";
import { lerpInto } from "../tensor/ops/lerp.ts";
import type { Sequence } from "./batch.ts";
import type { TrainEvent } from "./events.ts";
import type { ExampleMethod, ExampleSplits } from "./examples.ts";
import { inHalf } from "./half.ts";
import { responseLogProbs } from "./measure.ts";
import { bothAnswers, type PairExample } from "./pairs.ts";
import { baseOf, copyOf } from "./partners.ts";
import { probability } from "./settings.ts";

/** Headings of the settings of preference losses. */
export const preference = group("Preference loss");

/**
 * The reference of a run: the one that is given, the base that the policy's adapter stands on, or a copy of the policy as it is.
 * @returns also what frees a copy
 */
export function referenceOf(policy: CausalLM, given?: CausalLM): { reference: CausalLM; free(): void } {
  const there = given ?? baseOf(policy);
  if (there) return { reference: there, free: () => {} };
  const reference = copyOf(policy, "reference");
  return { reference, free: () => reference.destroy() };
}

/** TR-DPO (Gorbatovski et al. 2024): the reference moves to the policy from time to time. */
export const syncSettings = {
  syncRefModel: preference.bool(false, "TR-DPO: move the reference to the policy from time to time"),
  ...effective(needs("syncRefModel"), {
    refModelMixupAlpha: preference.float(0.6, "Share of the policy in the reference when it moves", probability),
    refModelSyncSteps: preference.int(512, "Steps between the reference's moves", { min: 1 }),
  }),
};

/**
 * What keeps the reference near the policy, for `trainOnExamples`: nothing, unless asked for.
 * Throws `UserError` where the reference is not a model with weights of its own.
 */
export function referenceSync(
  policy: CausalLM,
  reference: CausalLM | null,
  o: ResolvedSettings<typeof syncSettings>,
): Pick<ExampleMethod<never>, "afterStep" | "companions"> {
  if (!o.syncRefModel) return {};
  if (!reference || reference === policy || policy.adapter || reference.adapter) {
    throw new UserError(
      `${spelled(o, "syncRefModel")} needs a reference with weights of its own: train the whole model, and precompute nothing`,
    );
  }
  return {
    afterStep: (done) => {
      if (done % o.refModelSyncSteps === 0) lerpInto(reference.store, policy.store, o.refModelMixupAlpha);
    },
    companions: { reference: { model: reference } },
  };
}

const PAIRS_AT_ONCE = 64;

/**
 * Adds the reference's log-probabilities to pairs, a number for each answer token.
 * @param reference the policy itself, before it is trained, serves as well
 * @param fp16 whether the policy will be trained in half precision, so that both start alike. Default false.
 */
export async function precomputeReference<P extends PairExample>(
  reference: CausalLM,
  pairs: readonly P[],
  { fp16 = false }: { fp16?: boolean } = {},
): Promise<P[]> {
  const work = precomputing(reference, pairs, fp16);
  for (;;) {
    const next = await work.next();
    if (next.done) return next.value;
  }
}

/** The work of `precomputeReference` as a generator, which tells how many pairs are done. */
async function* precomputing<P extends PairExample>(
  reference: CausalLM,
  pairs: readonly P[],
  fp16: boolean,
): AsyncGenerator<number, P[]> {
  const done: P[] = [];
  const half = inHalf(fp16, [reference]);
  try {
    for (let at = 0; at < pairs.length; at += PAIRS_AT_ONCE) {
      const part = pairs.slice(at, at + PAIRS_AT_ONCE);
      const sequences = part.flatMap((pair): Sequence[] => bothAnswers([pair]));
      const { logProbs } = await responseLogProbs(reference, sequences);
      part.forEach((pair, i) => {
        done.push({ ...pair, reference: { chosen: logProbs[2 * i].slice(), rejected: logProbs[2 * i + 1].slice() } });
      });
      yield done.length;
    }
  } finally {
    half.destroy();
  }
  return done;
}

const SECONDS_BETWEEN_NOTES = 5;

/** Both parts of a run's pairs with the reference's log-probabilities, and notes of the work; what has them keeps them. */
export async function* referencedPairs(
  reference: CausalLM,
  { train, eval: held }: ExampleSplits<PairExample>,
  fp16: boolean,
): AsyncGenerator<TrainEvent, ExampleSplits<PairExample>> {
  const there = new Map([...train, ...held].flatMap((pair) => (pair.reference ? [[pair, pair] as const] : [])));
  const missing = [...train, ...held].filter((pair) => !pair.reference);
  const note = (text: string): TrainEvent => ({ type: "note", step: 0, text });
  const work = precomputing(reference, missing, fp16);
  let said = performance.now();
  try {
    for (;;) {
      const next = await work.next();
      if (next.done) {
        next.value.forEach((pair, i) => {
          there.set(missing[i], pair);
        });
        break;
      }
      if (performance.now() - said < SECONDS_BETWEEN_NOTES * 1000) continue;
      said = performance.now();
      yield note(`computing the reference's log-probabilities: ${next.value} of ${missing.length} pairs`);
    }
  } finally {
    await work.return([]); // a consumer that leaves must not leave the reference in half precision
  }
  if (missing.length > 0) yield note(`computed the reference's log-probabilities of ${missing.length} pairs`);
  const found = (pairs: readonly PairExample[]) => pairs.map((pair) => there.get(pair) as PairExample);
  return { train: found(train), eval: found(held) };
}
