/** The stages of a multi-objective reward model before its gate: regression of the attributes, verbosity taken out. */
import { UserError } from "../../runtime/errors.ts";
import { CORRELATION_THRESHOLD, rewardTransform, spearman, transformed, verbosityPenalties } from "./debias.ts";
import { type HeadConfig, MultiObjectiveHead } from "./head.ts";
import { type AttributeFit, type Features, fitAttributes, project, type RegressionOptions } from "./regression.ts";

/** Rated answers as features, with their ratings. */
export interface FitInputs {
  /** Features at the last token of every rated row. */
  rated: Features;
  /** [rows, attributes], NaN where a label is missing. */
  labels: ArrayLike<number>;
  attributes: readonly string[];
  /** Features at the last token of responses on which the verbosity penalties are chosen; default: the rated ones. */
  reference?: Features;
}

/** How attributes are regressed and verbosity is taken out of them. */
export interface FitOptions extends RegressionOptions {
  /** The attribute to take out of the others; null takes none out. */
  verbosityAttribute: string | null;
  /** Rank correlation with it that may stay. Default 0.03. */
  correlationThreshold?: number;
}

/** The regressions of all attributes, and what of verbosity was taken out of each. */
export interface Fit {
  regressions: AttributeFit[];
  penalties: number[];
  /** Spearman's correlation of every attribute with verbosity on the reference responses, before and after. */
  correlations: { before: number[]; after: number[] } | null;
  transform: Float64Array;
}

/** Fits every attribute on rated answers and takes verbosity out of the others. Throws a UserError for too few ratings. */
export function fitHead({ rated, labels, attributes, reference = rated }: FitInputs, options: FitOptions): Fit {
  const { verbosityAttribute: name, correlationThreshold = CORRELATION_THRESHOLD } = options;
  const n = attributes.length;
  const verbosity = name === null ? -1 : attributes.indexOf(name);
  if (name !== null && verbosity < 0) {
    throw new UserError(`verbosity_attribute ${name} is not one of the attributes: ${attributes.join(", ")}`);
  }
  const regressions = fitAttributes(rated, labels, attributes, options);
  if (verbosity < 0) {
    const transform = Float64Array.from({ length: n * n }, (_, at) => Number(at % (n + 1) === 0));
    return { regressions, penalties: attributes.map(() => 0), correlations: null, transform };
  }
  const rows = reference.data.length / reference.width;
  const rewards = Float64Array.from({ length: rows * n }, (_, at) =>
    project(reference, Math.floor(at / n), regressions[at % n].weights),
  );
  const penalties = verbosityPenalties(rewards, n, verbosity, correlationThreshold);
  const transform = rewardTransform(penalties, verbosity);
  const debiased = transformed(rewards, transform, n);
  const column = (values: Float64Array, k: number) => Float64Array.from({ length: rows }, (_, i) => values[i * n + k]);
  const v = column(rewards, verbosity);
  const correlations = {
    before: attributes.map((_, k) => spearman(column(rewards, k), v)),
    after: attributes.map((_, k) => (k === verbosity ? 0 : spearman(column(debiased, k), v))),
  };
  return { regressions, penalties, correlations, transform };
}

/** The head of a fit, with an untrained gate where `gating` describes one. */
export function headOf(
  fit: Fit,
  rest: Pick<
    HeadConfig,
    | "base_model_name_or_path"
    | "verbosity_attribute"
    | "prompt_pattern"
    | "hidden_size"
    | "gating"
    | "attribute_weights"
  >,
  seed: number,
): MultiObjectiveHead {
  const config: HeadConfig = {
    ...rest,
    attributes: fit.regressions.map(({ attribute }) => attribute),
    verbosity_penalties: fit.penalties,
    regression: fit.regressions.map(({ attribute, alpha, validationMse: validation_mse, rows }) => ({
      attribute,
      alpha,
      validation_mse,
      rows,
    })),
  };
  const gate = MultiObjectiveHead.gateOf(config);
  gate?.store.initialize(seed);
  const regression = fit.regressions.flatMap(({ weights }) => [...weights]);
  return new MultiObjectiveHead(config, { regression, transform: fit.transform }, gate);
}
