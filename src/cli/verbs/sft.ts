import { basename } from "node:path";
import type { DecoderConfig } from "../../nn/config.ts";
import { decoderConfig } from "../../nn/decoder-config.ts";
import { CausalLM } from "../../nn/models.ts";
import { trainSft } from "../../rlhf/sft.ts";
import { trainingDefaults } from "../../rlhf/training.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles, type Files } from "../../runtime/files.ts";
import { consume } from "../consume.ts";
import { sftData } from "../data/datasets.ts";
import { openGpu } from "../gpu.ts";
import { contextOf, openTokenizer, tokenizerFiles, WORLD, withModels } from "../models/models.ts";
import { ModelOpener } from "../models/opener.ts";
import { refuseTraining } from "../models/weight-options.ts";
import type { Values } from "../option.ts";
import { sftOptions } from "../options/sft.ts";
import { trainingOptions } from "../train.ts";
import { defineVerb } from "../verb.ts";

type Options = Values<typeof sftOptions>;

export const sftVerb = defineVerb({
  name: "sft",
  summary: "Train a language model on prompts with completions, or on text",
  options: sftOptions,
  examples: [
    "webrlhf sft --output_dir out/sft --max_steps 200 --learning_rate 1e-3",
    "webrlhf sft --model_name_or_path my-model --dataset_name train.jsonl.gz --num_train_epochs 2",
  ],
  async run(o, context) {
    const files = await diskFiles();
    const { terminal } = context;
    await openGpu(terminal);
    const opener = new ModelOpener(files, o);
    const { model, tokenizer } = await startingPoint(files, o, opener);
    await withModels([...opener.opened, model], async () => {
      const maxLength = contextOf(model, o.max_length);
      const prepare = {
        maxLength,
        appendEos: o.append_eos,
        all: !o.completion_only_loss,
        allAnswers: o.assistant_only_loss,
      };
      const data = await sftData(o, tokenizer, prepare, terminal);
      const options = {
        ...trainingDefaults,
        ...trainingOptions(o, context),
        fp16: o.fp16,
        epochs: o.num_train_epochs,
        maxSteps: o.max_steps ?? 0,
        ...data,
        run: { files, path: o.output_dir, besides: tokenizerFiles(tokenizer), keep: o.save_total_limit },
        resume: o.resume || context.resume,
      };
      await consume(trainSft(model, options), o, context);
    });
  },
});

async function startingPoint(files: Files, o: Options, opener: ModelOpener) {
  if (o.model_name_or_path !== null) {
    const tokenizer = await opener.trainingTokenizer(o.model_name_or_path);
    const model = await opener.policy(o.model_name_or_path);
    tokenizer.checkFits(model.config.vocabSize);
    return { model, tokenizer };
  }
  if (o.use_peft) throw new UserError("use_peft needs --model_name_or_path: an adapter stands on a trained model");
  refuseTraining(o, "a model from scratch");
  const path = o.tokenizer_name_or_path ?? (o.dataset_name === WORLD ? WORLD : null);
  if (path === null) {
    throw new UserError("a model from scratch needs --tokenizer_name_or_path; make one with: webrlhf tokenizer train");
  }
  const tokenizer = await openTokenizer(files, path, o.chat_template_path);
  const chosen: Partial<DecoderConfig> = {
    ...(o.num_key_value_heads !== null && { kvHeads: o.num_key_value_heads }),
    ...(o.intermediate_size !== null && { intermediateSize: o.intermediate_size }),
  };
  const config = decoderConfig({
    family: o.model_type,
    vocabSize: tokenizer.vocabSize,
    hiddenSize: o.hidden_size,
    layers: o.num_hidden_layers,
    heads: o.num_attention_heads,
    maxPositions: o.max_position_embeddings,
    tieEmbeddings: o.tie_word_embeddings,
    bosId: tokenizer.bosId ?? null,
    eosId: tokenizer.eosId ?? null,
    padId: tokenizer.padId ?? null,
    ...chosen,
  });
  const model = new CausalLM(config, basename(o.output_dir)).initialize(o.seed);
  model.gradientCheckpointing = o.gradient_checkpointing;
  return { model, tokenizer };
}
