/** Settings of verbs in which a model reads answers. */
import { datasetSettings } from "../../open/settings.ts";
import { data } from "../../rlhf/settings.ts";

/** How answers are read by a model that judges them. */
export const readingSettings = {
  template: datasetSettings.template,
  maxLength: data.int(null, "Cut prompt plus answer to this many tokens; default: the model's context", { min: 2 }),
  truncationSide: data.choice(
    ["right", "left"],
    "right",
    "Where what is longer is cut: left keeps the end of the answer and drops the beginning of the prompt (RLHFlow)",
  ),
};
