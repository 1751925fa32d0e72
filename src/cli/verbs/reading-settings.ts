/** Settings of verbs in which a model reads answers. */
import { datasetSettings } from "../../open/index.ts";
import { reward } from "../../rlhf/reward.ts";

/** How answers are read by a model that judges them. */
export const readingSettings = {
  template: datasetSettings.template,
  maxLength: reward.table.maxLength,
  truncationSide: reward.table.truncationSide,
};
