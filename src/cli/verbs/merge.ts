import { join } from "node:path";
import { mergeAdapter } from "../../nn/merge.ts";
import { openAdapter, readAdapterFolder } from "../../nn/peft.ts";
import { loadCausalLM, loadScoreModel, modelFiles } from "../../nn/pretrained.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { openGpu } from "../gpu.ts";
import { basePathOf, openTokenizer, tokenizerFiles, withModels } from "../models/models.ts";
import { mergeOptions } from "../options/merge.ts";
import { defineVerb } from "../verb.ts";

export const mergeVerb = defineVerb({
  name: "merge",
  summary: "Put an adapter into its base: a model folder like any other",
  options: mergeOptions,
  examples: ["webrlhf merge --adapter_path out/ppo --output_dir out/merged"],
  async run(o, { terminal }) {
    const files = await diskFiles();
    const folder = o.adapter_path!;
    const adapter = await readAdapterFolder(files, folder);
    if (!adapter) throw new UserError(`${folder} is not an adapter: it has no adapter_config.json`);
    const start = basePathOf(adapter, o.model_name_or_path);
    const home = (await files.read(join(folder, "tokenizer.json"))) ? folder : start;
    const tokenizer = (await files.read(join(home, "tokenizer.json"))) ? await openTokenizer(files, home) : null;
    await openGpu(terminal);
    const scorer = adapter.taskType === "SEQ_CLS";
    const base = scorer
      ? await loadScoreModel(files, start, "base model", 0, "float32", adapter.head ?? {})
      : await loadCausalLM(files, start, "base model");
    await withModels([base], async () => {
      const model = await openAdapter(files, adapter, base, scorer ? "score" : "lm", { label: "adapter" });
      const merged = mergeAdapter(model, base);
      await withModels(merged === base ? [model] : [model, merged], async () => {
        const besides = tokenizer ? tokenizerFiles(tokenizer) : {};
        await files.writeFolder(o.output_dir!, { ...(await modelFiles(merged)), ...besides });
      });
    });
    terminal.line(`${folder} merged into ${start}: ${o.output_dir}`);
  },
});
