/** Settings of models that go to the hub, in transformers' names. */
import { logging } from "../rlhf/settings.ts";
import type { HubTarget } from "./push.ts";

/** Where a model goes on the hub. */
export const hubTargetSettings = {
  hubModelId: logging.text(null, "The model's name on the hub, org/name or name; default: the folder's name"),
  hubToken: logging.text(null, "Token that may write; else the one that `hf auth login` keeps", { secret: "HF_TOKEN" }),
  hubPrivateRepo: logging.bool(
    null,
    "Make the model's repository private, where it is made; default: as its owner's are",
  ),
};

/** Whether what is written goes to the hub, too. */
export const pushSettings = {
  pushToHub: logging.bool(false, "Push the finished folder, with its model card, to the hub (HF_ENDPOINT)"),
  // Configs of other programs name their models whether or not they push them, so these may stand alone.
  ...hubTargetSettings,
};

/** Settings of the hub that were set though nothing is pushed, by their names in files. */
export const idlePushing = ({
  pushToHub,
  hubModelId: name = null,
  hubPrivateRepo: hidden = null,
}: HubTarget & { pushToHub: boolean }): string[] =>
  pushToHub ? [] : [...(name === null ? [] : ["hub_model_id"]), ...(hidden === null ? [] : ["hub_private_repo"])];

/** Whether a setting says whether and where a model is pushed. */
export const isOfHub = (key: string): boolean => key === "pushToHub" || Object.hasOwn(hubTargetSettings, key);
