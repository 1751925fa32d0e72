import { modelToPush, openPush } from "../../open/push.ts";
import { hubTargetSettings } from "../../open/push-settings.ts";
import { data, logging } from "../../rlhf/settings.ts";
import { settings } from "../../settings/index.ts";
import { surroundings } from "../surroundings.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const pushSettings = settings("push", {
  modelPath: data.path(null, "Folder of a model or an adapter, as training, merge and convert write it", {
    required: true,
  }),
  ...hubTargetSettings,
  dryRun: logging.bool(false, "List what would be pushed, and ask the hub nothing"),
});

export const pushVerb = defineVerb({
  name: "push",
  summary: summaries.push,
  settings: pushSettings,
  argument: "modelPath",
  examples: [
    "webrlhf push out/dpo --hub_model_id me/my-model --dry_run",
    "webrlhf push out/dpo --hub_model_id me/my-model --hub_private_repo",
  ],
  endsAtOnce: true,
  async run(o, context) {
    const folder = o.modelPath as string;
    const list = await modelToPush(folder);
    if (o.dryRun) {
      for (const { path, size } of list) context.terminal.result(`${size}\t${path}\n`);
      const bytes = list.reduce((sum, { size }) => sum + size, 0);
      context.terminal.line(`${list.length} files, ${(bytes / 1e6).toFixed(1)} MB, would be pushed`);
      return;
    }
    await (await openPush(folder, o, surroundings(context))).push();
  },
});
