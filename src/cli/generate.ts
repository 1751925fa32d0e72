import { sampleResponses } from "../rlhf/rollout.ts";
import { diskFiles } from "../runtime/files.ts";
import { promptData } from "./datasets.ts";
import { openGpu } from "./gpu.ts";
import { openPolicy, withModels } from "./models.ts";
import { generateOptions } from "./options.ts";
import { defineVerb } from "./verb.ts";

export const generateVerb = defineVerb({
  name: "generate",
  summary: "Sample responses from a model",
  options: generateOptions,
  examples: [
    "webrlhf generate --model_name_or_path out/sft --num_prompts 3 --num_return_sequences 2",
    'webrlhf generate --model_name_or_path out/sft --prompt "Once there was" --temperature 0.7',
  ],
  async run(o, { terminal }) {
    const files = await diskFiles();
    await openGpu(terminal);
    const { model, tokenizer } = await openPolicy(files, o.model_name_or_path!, null, o.base_model_name_or_path);
    await withModels([model], async () => {
      const room = { context: model.config.maxPositions, response: o.max_new_tokens };
      const prompts =
        o.prompt === null
          ? await promptData(
              { ...o, max_eval_samples: o.num_prompts, max_train_samples: o.num_prompts },
              o.dataset_name === "builtin:world" || o.test_size > 0 ? "test" : "train",
              tokenizer,
              room,
              terminal,
            )
          : [{ text: o.prompt, ids: Uint32Array.from([...tokenizer.prefixIds, ...tokenizer.encode(o.prompt)]) }];
      const responses = await sampleResponses(
        model,
        tokenizer,
        prompts,
        prompts.map((_, i) => i),
        {
          maxNewTokens: o.max_new_tokens,
          samples: o.num_return_sequences,
          temperature: o.temperature,
          topK: o.top_k,
          topP: o.top_p,
          seed: o.seed,
          iteration: 0,
        },
      );
      if (o.output_file === null) {
        for (const { promptText, text } of responses) terminal.result(`${terminal.style("dim", promptText)}${text}\n`);
        return;
      }
      const lines = responses.map((r) => JSON.stringify({ prompt: r.promptText, completion: r.text, ended: r.ended }));
      await files.writeFile(o.output_file, `${lines.join("\n")}\n`);
      terminal.line(`${responses.length} responses in ${o.output_file}`);
    });
  },
});
