/** What a scorer's numbers are: how many a token has, which of them is the score, and the statistics that normalise it. */
import { UserError } from "../runtime/errors.ts";

/** How the statistics that normalise scores follow the scores. */
export const normalizerKinds = ["RunningMeanStd", "ExponentialMovingAverage"] as const;
/** A rule by which the statistics of scores follow the scores. */
export type NormalizerKind = (typeof normalizerKinds)[number];

/** The kind of a scorer. Normalised rewards are shifted and scaled, costs only scaled (their sign means something), values neither (safe-rlhf). */
export type ScoreType = "reward" | "cost" | "critic";
const scoreTypes: readonly ScoreType[] = ["reward", "cost", "critic"];

/** Mean and (unbiased) variance of the scores of `count` sequences. */
export interface NormalizerState {
  mean: number;
  variance: number;
  count: number;
}

/** The meaning of a scorer's numbers: which of them is the score, and how it is normalised. */
export interface Scoring {
  type: ScoreType;
  /** Scores are given normalised. */
  doNormalize: boolean;
  /** The statistics of training, if it kept any. */
  normalizer: (NormalizerState & { kind: NormalizerKind; momentum: number }) | null;
  /** Names of the numbers that a token has; the score is the only one, or the one called "quality". */
  labels: readonly string[];
}

/** A score head: the linear layer on the last hidden state. */
export interface ScoreHead {
  /** Numbers per token. */
  outputs: number;
  /** Score heads of transformers have none, those of safe-rlhf do. */
  bias: boolean;
}

/** The head of ODIN (Chen et al. 2024): one number explains the length, so that the other need not. */
export const ODIN_LABELS: readonly string[] = ["length", "quality"];

export const plainScoring = (labels: readonly string[] = ["LABEL_0"]): Scoring => ({
  type: "reward",
  doNormalize: false,
  normalizer: null,
  labels,
});

export const freshState = (): NormalizerState => ({ mean: 0, variance: 1, count: 0 });

/** Which of a token's numbers is the score. Throws `UserError` where none of several is called so. */
export function scoreIndex(labels: readonly string[]): number {
  const index = labels.length === 1 ? 0 : labels.indexOf("quality");
  if (index >= 0) return index;
  throw new UserError(
    `the model has ${labels.length} numbers per token (${labels.join(", ")}), and none is called quality: ` +
      "name the one that is the score in id2label of its config.json",
  );
}

/** Nothing that a sequence classifier of transformers with one label would not have. */
export const isPlain = ({ type, doNormalize, normalizer, labels }: Scoring, bias: boolean): boolean =>
  type === "reward" && !doNormalize && !normalizer && labels.length === 1 && !bias;

/** The fields of config.json: transformers' and, for what it does not know, safe-rlhf's. */
export function scoringFields(scoring: Scoring, bias: boolean): Record<string, unknown> {
  const { type, doNormalize, normalizer, labels } = scoring;
  const known = {
    num_labels: labels.length,
    id2label: Object.fromEntries(labels.map((label, i) => [i, label])),
    label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
  };
  if (isPlain(scoring, bias)) return known;
  return {
    ...known,
    score_dim: labels.length,
    bias,
    score_type: type,
    do_normalize: doNormalize,
    ...(normalizer && {
      normalizer_type: normalizer.kind,
      momentum: normalizer.momentum,
      mean: [normalizer.mean],
      var: [normalizer.variance],
      count: normalizer.count,
    }),
  };
}

/**
 * Reads the same fields. Throws `UserError` naming the field that is wrong.
 * @param outputs rows of the file's score head
 */
export function readScoring(json: Record<string, unknown>, file: string, outputs: number): Scoring {
  const wrong = (field: string, expected: string): never => {
    throw new UserError(`${file}: ${field} must be ${expected}, not ${JSON.stringify(json[field])}`);
  };
  const choice = <C extends string>(field: string, choices: readonly C[], fallback: C | null): C | null => {
    const value = (json[field] ?? fallback) as C | null;
    return value === null || choices.includes(value) ? value : wrong(field, `one of ${choices.join(", ")}`);
  };
  const number = (field: string, fallback: number): number => {
    const value = json[field] ?? fallback;
    const one = Array.isArray(value) && value.length === 1 ? value[0] : value;
    return typeof one === "number" && Number.isFinite(one) ? one : wrong(field, "a number");
  };
  const kind = choice("normalizer_type", normalizerKinds, null);
  const doNormalize = json.do_normalize === true;
  if (doNormalize && kind === null && json.mean === undefined) {
    throw new UserError(
      `${file}: do_normalize is set, but mean and var are missing: train with normalizer_type, or unset it`,
    );
  }
  const normalizer =
    kind === null && json.mean === undefined
      ? null
      : {
          kind: kind ?? ("RunningMeanStd" as const),
          momentum: number("momentum", 0.9),
          mean: number("mean", 0),
          variance: number("var", 1),
          count: number("count", 0),
        };
  const names = (json.id2label ?? {}) as Record<string, unknown>;
  const labels = Array.from({ length: outputs }, (_, i) => (typeof names[i] === "string" ? names[i] : `LABEL_${i}`));
  return { type: choice("score_type", scoreTypes, "reward") as ScoreType, doNormalize, normalizer, labels };
}
