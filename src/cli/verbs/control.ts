import { inWords, leaveWish, type Wish } from "../../rlhf/controls.ts";
import { logging } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { needs, settings, where } from "../../settings/index.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const controlSettings = settings(
  "control",
  {
    inputDir: logging.path(null, "Folder of a run at work", { required: true }),
    ask: logging.choice(
      ["pause", "continue", "save", "stop", "set"],
      "pause",
      "What it is to do after the step it is at; stop saves as Ctrl-C does, set changes a setting from the next step on",
    ),
    setting: logging.text(null, "The setting to change: learning_rate, kl_coef or beta, by the method's name for it", {
      effect: where("ask", "set"),
    }),
    value: logging.float(null, "Its new value", { effect: needs("setting") }),
  },
  ({ ask, setting, value }, name) => {
    if (ask === "set" && (setting === null || value === null)) {
      throw new UserError(`${name("ask")} set needs ${name("setting")} and ${name("value")}`);
    }
  },
);

export const controlVerb = defineVerb({
  name: "control",
  summary: summaries.control,
  settings: controlSettings,
  argument: ["inputDir", "ask", "setting", "value"],
  examples: ["webrlhf control out/ppo pause", "webrlhf control out/ppo set learning_rate 1e-6"],
  interruptNote: null,
  endsAtOnce: true,
  async run({ inputDir, ask, setting, value }, { terminal }) {
    const wish: Wish = ask === "set" ? { ask, setting: setting as string, value: value as number } : { ask };
    await leaveWish(await diskFiles(), inputDir as string, wish);
    terminal.line(`asked for: ${inWords(wish)}; the run hears it after the step it is at`);
  },
});
