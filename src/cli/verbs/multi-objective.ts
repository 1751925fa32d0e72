import type { DomainPreference } from "../../data/world/domains.ts";
import type { Model } from "../../nn/models.ts";
import type { Sequence } from "../../rlhf/batch.ts";
import { promptPattern, sequenceFeatures } from "../../rlhf/multi-objective/features.ts";
import { type Fit, fitHead, headOf } from "../../rlhf/multi-objective/fit.ts";
import type { SequenceFeatures } from "../../rlhf/multi-objective/head.ts";
import { gateDefaults, type PairFeatures, trainGate } from "../../rlhf/multi-objective/train.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { consume } from "../consume.ts";
import { pairData, ratedData } from "../data/datasets.ts";
import { openGpu } from "../gpu.ts";
import { hubNameAt } from "../models/hub.ts";
import { contextOf, tokenizerFiles, withModels } from "../models/models.ts";
import { ModelOpener } from "../models/opener.ts";
import type { Values } from "../option.ts";
import { multiObjectiveOptions } from "../options/multi-objective.ts";
import { short } from "../progress.ts";
import { trainingOptions } from "../train.ts";
import { type Context, defineVerb, Interrupted } from "../verb.ts";

type Options = Values<typeof multiObjectiveOptions>;

export const multiObjectiveVerb = defineVerb({
  name: "multi-objective",
  summary: "Make a reward model of several rated qualities, weighed by the prompt",
  options: multiObjectiveOptions,
  examples: [
    "webrlhf multi-objective --model_name_or_path out/reward --dataset_name rated.jsonl --output_dir out/regression",
    "webrlhf multi-objective --model_name_or_path out/reward --dataset_name rated.jsonl " +
      "--verbosity_attribute helpsteer-verbosity --preference_dataset_name pairs.jsonl --output_dir out/armo",
  ],
  async run(o, context) {
    const files = await diskFiles();
    const { terminal } = context;
    await openGpu(terminal);
    const path = o.model_name_or_path!;
    const opener = new ModelOpener(files, o);
    const tokenizer = await opener.trainingTokenizer(path);
    const weights = fixedWeights(o);
    const model = await opener.backbone(path);
    await withModels(opener.opened, async () => {
      tokenizer.checkFits(model.config.vocabSize);
      const maxLength = contextOf(model, o.max_length);
      const pattern = promptPattern(tokenizer);
      const features = (what: string, sequences: readonly Sequence[]) =>
        extract(model, sequences, pattern, what, context);
      const pairsOf = async (name: string): Promise<PairFeatures> => {
        const choice = { ...o, dataset_name: name, test_size: 0, max_train_samples: o.max_preference_samples };
        const { train } = await pairData(choice, tokenizer, { maxLength }, terminal);
        const domains = train.map(({ record }) => (record as Partial<DomainPreference>).domain);
        const side = (key: "chosen" | "rejected") =>
          features(
            `${key} answers of ${name}`,
            train.map((pair) => ({ ids: pair[key], promptLength: pair.promptLength })),
          );
        const [chosen, rejected] = [await side("chosen"), await side("rejected")];
        return { chosen, rejected, ...(domains.every((d) => d !== undefined) && { groups: domains as string[] }) };
      };

      const { attributes, sequences, labels } = await ratedData(o, tokenizer, { maxLength }, terminal);
      if (weights && weights.length !== attributes.length) {
        throw new UserError(
          `attribute_weights has ${weights.length} numbers for ${attributes.length} attributes: ${attributes.join(", ")}`,
        );
      }
      const rated = await features("rated answers", sequences);
      const pairs = o.preference_dataset_name === null ? null : await pairsOf(o.preference_dataset_name);
      const same = o.reference_dataset_name === null || o.reference_dataset_name === o.preference_dataset_name;
      const reference = same ? pairs : await pairsOf(o.reference_dataset_name!);
      const fit = fitHead(
        { rated: rated.last, labels, attributes, ...(reference && { reference: answersOf(reference) }) },
        { seed: o.seed, verbosityAttribute: o.verbosity_attribute, correlationThreshold: o.corr_threshold },
      );
      report(fit, context);
      const rest = {
        base_model_name_or_path: hubNameAt(path) ?? path,
        verbosity_attribute: o.verbosity_attribute,
        prompt_pattern: pattern,
        hidden_size: model.config.hiddenSize,
        gating: pairs && {
          hidden_size: o.gating_hidden_dim,
          n_hidden: o.gating_n_hidden,
          temperature: o.gating_temperature,
        },
        attribute_weights: pairs ? null : weights,
      };
      const head = headOf(fit, rest, o.seed);
      try {
        const besides = tokenizerFiles(tokenizer);
        if (!pairs) {
          await files.writeFiles(o.output_dir, { ...(await head.files()), ...besides });
          return;
        }
        const options = {
          ...gateDefaults,
          ...trainingOptions({ ...o, gradient_accumulation_steps: 1 }, context),
          maxSteps: o.max_steps,
          dropout: o.gating_dropout,
          validationShare: o.validation_share,
          debiased: o.debias_training,
          run: { files, path: o.output_dir, besides, keep: o.save_total_limit },
          resume: o.resume || context.resume,
        };
        await consume(trainGate(head, pairs, options), o, context);
      } finally {
        head.destroy();
      }
    });
  },
});

function fixedWeights({ attribute_weights: list, preference_dataset_name: pairs }: Options): number[] | null {
  if (list === null) return null;
  if (pairs !== null)
    throw new UserError("attribute_weights are for models without a gate: leave out preference_dataset_name");
  return list.map((text) => {
    const weight = Number(text);
    if (text.trim() !== "" && Number.isFinite(weight)) return weight;
    throw new UserError(`attribute_weights must be numbers, not ${JSON.stringify(text)}`);
  });
}

/** Hidden states, with a line of progress now and then. Ctrl-C ends it: there is nothing to save yet. */
async function extract(
  model: Model,
  sequences: readonly Sequence[],
  pattern: readonly number[] | null,
  what: string,
  { terminal, label, signal }: Context,
): Promise<SequenceFeatures> {
  let said = performance.now();
  const found = await sequenceFeatures(model, sequences, pattern, (done) => {
    if (signal.aborted) throw new Interrupted("stopped before the gate's training; nothing was written");
    if (performance.now() - said < 5000) return;
    said = performance.now();
    terminal.line(`${label}: ${what}: ${done} of ${sequences.length} read`);
  });
  terminal.line(`${label}: ${what}: ${sequences.length} read`);
  return found;
}

/** The last-token features of all answers of pairs. */
function answersOf({ chosen, rejected }: PairFeatures) {
  const data = new Float32Array(2 * chosen.last.data.length);
  data.set(chosen.last.data);
  data.set(rejected.last.data, chosen.last.data.length);
  return { data, width: chosen.last.width };
}

function report({ regressions, penalties, correlations }: Fit, { terminal, label }: Context): void {
  for (const [k, { attribute, alpha, validationMse, rows }] of regressions.entries()) {
    const verbosity = correlations
      ? `  verbosity: penalty ${penalties[k]}, correlation ${short(correlations.before[k])} to ${short(correlations.after[k])}`
      : "";
    terminal.line(
      `${label}: ${attribute}: ${rows} ratings  alpha ${alpha}  validation mse ${short(validationMse)}${verbosity}`,
    );
  }
}
