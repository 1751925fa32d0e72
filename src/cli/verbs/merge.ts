import { mergeAdapter } from "../../nn/merge.ts";
import { openAdapter, readAdapterFolder } from "../../nn/peft.ts";
import { loadCausalLM, loadScoreModel, modelFiles } from "../../nn/pretrained.ts";
import { foreignNames } from "../../open/foreign.ts";
import { writeCard } from "../../open/model-card.ts";
import { withModels } from "../../open/models.ts";
import { ModelOpener } from "../../open/opener.ts";
import { openPush } from "../../open/push.ts";
import { pushSettings } from "../../open/push-settings.ts";
import { hubSettings, overwriting } from "../../open/settings.ts";
import { tokenizerFiles } from "../../open/tokenizer.ts";
import { logging, model } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { settings } from "../../settings/index.ts";
import { openGpu } from "../gpu.ts";
import { surroundings } from "../surroundings.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const mergeTable = {
  adapterPath: model.path(null, "Adapter folder, as sft, reward, ppo, raft or PEFT write it", {
    required: true,
    aka: ["lora_model_path"],
  }),
  modelNameOrPath: model.path(null, "Base model; default: what the adapter names", {
    aka: ["base_model_name_or_path"],
  }),
  ...hubSettings,
  outputDir: logging.path(null, "Folder for the merged model", { required: true, aka: ["output_model_path"] }),
  ...overwriting,
  ...pushSettings,
};

const mergeSettings = settings("merge", mergeTable, undefined, foreignNames);

export const mergeVerb = defineVerb({
  name: "merge",
  summary: summaries.merge,
  settings: mergeSettings,
  examples: ["webrlhf merge --adapter_path out/ppo --output_dir out/merged"],
  endsAtOnce: true,
  product: (o) => ({ folder: o.outputDir as string }),
  async run(o, context) {
    const files = await diskFiles();
    const output = o.outputDir as string;
    const pusher = o.pushToHub ? await openPush(output, o, surroundings(context)) : null;
    const folder = o.adapterPath as string;
    const opener = new ModelOpener({ ...o, ...surroundings(context) });
    const { path } = await opener.locate(folder);
    const adapter = await readAdapterFolder(files, path);
    if (!adapter) throw new UserError(`${folder} is not an adapter: it has no adapter_config.json`);
    const start = o.modelNameOrPath ?? opener.basePath(adapter);
    const { path: basePath } = await opener.locate(start);
    const tokenizer = (await opener.tokenizerBeside(folder)) && (await opener.tokenizer(folder));
    await openGpu(context.terminal);
    const scorer = adapter.taskType === "SEQ_CLS";
    const base = scorer
      ? await loadScoreModel(files, basePath, "base model", 0, "float32", adapter.head ?? {})
      : await loadCausalLM(files, basePath, "base model");
    await withModels([base], async () => {
      const model = await openAdapter(files, adapter, base, scorer ? "score" : "lm", { label: "adapter" });
      const merged = mergeAdapter(model, base);
      await withModels(merged === base ? [model] : [model, merged], async () => {
        const besides = tokenizer ? tokenizerFiles(tokenizer) : {};
        await files.writeFiles(output, { ...(await modelFiles(merged)), ...besides });
      });
    });
    context.terminal.line(`${folder} merged into ${start}: ${output}`);
    await writeCard(files, output, { verb: "merge", table: mergeTable });
    await pusher?.push();
  },
});
