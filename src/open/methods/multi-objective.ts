/** A multi-objective reward model by names: ratings become a head on hidden states, and preference pairs train its gate. */
import type { Dataset } from "../../data/dataset.ts";
import type { DomainPreference } from "../../data/world/domains.ts";
import type { Model } from "../../nn/models.ts";
import type { Sequence } from "../../rlhf/batch.ts";
import { restoreModels, saveModels } from "../../rlhf/checkpoint.ts";
import type { TrainEvent } from "../../rlhf/events.ts";
import { contextOf } from "../../rlhf/examples.ts";
import type { RunOptions } from "../../rlhf/loop.ts";
import { promptPattern, sequenceFeatures } from "../../rlhf/multi-objective/features.ts";
import { type Fit, fitHead, headOf } from "../../rlhf/multi-objective/fit.ts";
import type { MultiObjectiveHead, SequenceFeatures } from "../../rlhf/multi-objective/head.ts";
import { gate, type PairFeatures, trainGate } from "../../rlhf/multi-objective/train.ts";
import { recorded } from "../../rlhf/recorded.ts";
import { data, model, positive } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { effective, group, needs, spelled } from "../../settings/index.ts";
import { openDataset } from "../datasets.ts";
import { savedName } from "../hub.ts";
import { defineMethod, type RunSurroundings } from "../method.ts";
import * as named from "../settings.ts";
import { tokenizerFiles } from "../tokenizer.ts";
import { summaries } from "./names.ts";

const regression = group("Regression and verbosity");
const gating = group("Gate");
const { template, longPrompts } = named.datasetSettings;

const names = {
  modelNameOrPath: model.path(
    null,
    "Model whose hidden states are the features, mostly a reward model; it stays as it is",
    { required: true },
  ),
  ...named.tokenizerSettings,
  ...named.templateSettings,
  ...named.hubSettings,
  ...named.weightSettings,
  datasetName: data.text(
    "builtin:domains",
    "Rated answers: a file or dataset with messages, or prompt and completion (or response), and number columns",
    { aka: ["dataset"] },
  ),
  ...named.splitSettings,
  attributes: data.list(null, "Columns that are ratings; default: every column of numbers. Null is a missing rating"),
  maxTrainSamples: data.int(null, "Use this many rated answers; builtin:domains makes this many, 2048 by default", {
    min: 2,
  }),
  preferenceDatasetName: data.text(null, "Preference pairs to train the gate on; default: none, and no gate"),
  maxPreferenceSamples: data.int(null, "Use this many pairs; builtin sets make this many, 2048 by default", {
    min: 1,
    effect: needs("preferenceDatasetName", "referenceDatasetName"),
  }),
  referenceDatasetName: data.text(
    null,
    "Pairs on whose answers verbosity is measured; default: those of preference_dataset_name, or the rated answers",
    { effect: needs("verbosityAttribute") },
  ),
  template,
  longPrompts,
  maxLength: data.int(null, "Cut prompt plus answer to this many tokens; default: the model's context", { min: 2 }),
  verbosityAttribute: regression.text(
    null,
    "Attribute to take out of the others, so that length is not paid for; default: none",
  ),
  corrThreshold: regression.float(0.03, "Rank correlation with verbosity that may stay in an attribute", {
    min: -1,
    max: 1,
    effect: needs("verbosityAttribute"),
  }),
  attributeWeights: regression.numbers(null, "Without a gate: the weight of each attribute; default: equal ones"),
  ...effective(needs("preferenceDatasetName"), {
    gatingHiddenDim: gating.int(1024, "Width of the gate's hidden layers", { min: 1 }),
    gatingNHidden: gating.int(3, "Hidden layers of the gate", { min: 1 }),
    gatingTemperature: gating.float(10, "Divides the gate's outputs before the softmax", positive),
  }),
};

/** The method "multi-objective": a reward model of several rated qualities, weighed by the prompt. */
const multiObjectiveMethod = defineMethod(
  gate,
  names,
  {
    summary: summaries["multi-objective"],
    examples: [
      "webrlhf multi-objective --model_name_or_path out/reward --dataset_name rated.jsonl --output_dir out/regression",
      "webrlhf multi-objective --model_name_or_path out/reward --dataset_name rated.jsonl " +
        "--verbosity_attribute helpsteer-verbosity --preference_dataset_name pairs.jsonl --output_dir out/armo",
    ],
    async open(o, opener, around) {
      const name = o.modelNameOrPath as string;
      const tokenizer = await opener.trainingTokenizer(name);
      const base = await opener.backbone(name);
      tokenizer.checkFits(base.config.vocabSize);
      const maxLength = contextOf(base, o);
      const pattern = promptPattern(tokenizer);
      const features = (what: string, sequences: readonly Sequence[]) =>
        extract(base, sequences, pattern, what, around);
      const pairsOf = async (dataset: Dataset): Promise<PairFeatures> => {
        const { train } = await dataset.pairs(tokenizer, { maxLength });
        const domains = train.map(({ record }) => (record as Partial<DomainPreference>).domain);
        const side = (key: "chosen" | "rejected") =>
          features(
            `${key} answers of ${dataset.name}`,
            train.map((pair) => ({ ids: pair[key], promptLength: pair.promptLength })),
          );
        const [chosen, rejected] = [await side("chosen"), await side("rejected")];
        return { chosen, rejected, ...(domains.every((d) => d !== undefined) && { groups: domains as string[] }) };
      };
      const dataset = openDataset(o.datasetName, { ...o, ...around });
      const pairSet = (asked: string) => dataset.with({ maxTrainSamples: o.maxPreferenceSamples }, asked);

      const { attributes, sequences, labels } = await dataset.rated(tokenizer, { maxLength }, o.attributes);
      if (o.attributeWeights && o.attributeWeights.length !== attributes.length) {
        throw new UserError(
          `${spelled(o, "attributeWeights")} has ${o.attributeWeights.length} numbers for ${attributes.length} attributes: ` +
            attributes.join(", "),
        );
      }
      const rated = await features("rated answers", sequences);
      const pairs = o.preferenceDatasetName === null ? null : await pairsOf(pairSet(o.preferenceDatasetName));
      const same = o.referenceDatasetName === null || o.referenceDatasetName === o.preferenceDatasetName;
      const reference = same ? pairs : await pairsOf(pairSet(o.referenceDatasetName as string));
      const fit = fitHead(
        { rated: rated.last, labels, attributes, ...(reference && { reference: answersOf(reference) }) },
        { seed: o.seed, verbosityAttribute: o.verbosityAttribute, correlationThreshold: o.corrThreshold },
      );
      tell(fit, around);
      const rest = {
        base_model_name_or_path: savedName(await opener.locate(name)),
        verbosity_attribute: o.verbosityAttribute,
        prompt_pattern: pattern,
        hidden_size: base.config.hiddenSize,
        gating: pairs && {
          hidden_size: o.gatingHiddenDim,
          n_hidden: o.gatingNHidden,
          temperature: o.gatingTemperature,
        },
        attribute_weights: pairs ? null : o.attributeWeights && [...o.attributeWeights],
      };
      const head = headOf(fit, rest, o.seed);
      opener.opened.push(head);
      const train = (run: RunOptions = {}): AsyncGenerator<TrainEvent> =>
        pairs
          ? trainGate({ head }, pairs, gate.pick(o), run)
          : recorded(run, { stage: "multi-objective", settings: o, restore: () => restored(head, run) }, () =>
              withoutGate(head, run),
            );
      return { besides: tokenizerFiles(tokenizer), train };
    },
  },
  (o, name) => {
    if (o.attributeWeights === null || o.preferenceDatasetName === null) return;
    throw new UserError(
      `${name("attributeWeights")} are for models without a gate: leave out ${name("preferenceDatasetName")}`,
    );
  },
);

async function restored(head: MultiObjectiveHead, { folder }: RunOptions): Promise<void> {
  if (folder) await restoreModels(folder, { "": head });
}

/** A head that nothing is left to train of: it is saved. */
async function* withoutGate(head: MultiObjectiveHead, { folder }: RunOptions): AsyncGenerator<TrainEvent> {
  yield { type: "start", stage: "multi-objective", step: 0, maxSteps: 0, parameters: 0 };
  if (folder) await saveModels(folder, { "": head });
  yield { type: "end", step: 0, metrics: {} };
}

/** Hidden states, with a word now and then. A signal ends it: there is nothing to save yet. */
async function extract(
  base: Model,
  sequences: readonly Sequence[],
  pattern: readonly number[] | null,
  what: string,
  { work, signal }: RunSurroundings,
): Promise<SequenceFeatures> {
  return sequenceFeatures(base, sequences, pattern, (done) => {
    signal?.throwIfAborted();
    work?.(`reading ${what}`, done, sequences.length);
  });
}

/** The last-token features of all answers of pairs. */
function answersOf({ chosen, rejected }: PairFeatures) {
  const both = new Float32Array(2 * chosen.last.data.length);
  both.set(chosen.last.data);
  both.set(rejected.last.data, chosen.last.data.length);
  return { data: both, width: chosen.last.width };
}

function tell({ regressions, penalties, correlations }: Fit, { say }: RunSurroundings): void {
  const short = (value: number) => value.toPrecision(3);
  for (const [k, { attribute, alpha, validationMse, rows }] of regressions.entries()) {
    const verbosity = correlations
      ? `  verbosity: penalty ${penalties[k]}, correlation ${short(correlations.before[k])} to ${short(correlations.after[k])}`
      : "";
    say?.(`${attribute}: ${rows} ratings  alpha ${alpha}  validation mse ${short(validationMse)}${verbosity}`);
  }
}

/** The settings of the method, resolved. */

/** Methods that make rewards of ratings. */
export const multiObjectiveMethods = { "multi-objective": multiObjectiveMethod };
