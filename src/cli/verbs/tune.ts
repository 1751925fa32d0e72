/** `webrlhf tune`: finds the fastest kernels of this machine's adapter, for all later runs on it. */
import { dayModels, type TunedStep, tune } from "../../day/index.ts";
import { logging, model } from "../../rlhf/settings.ts";
import { settings } from "../../settings/index.ts";
import { openGpu } from "../gpu.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const tuneSettings = settings("tune", {
  seconds: logging.float(20, "Seconds for all products together", { min: 0, exclusiveMin: true, max: 86400 }),
  shape: model.maybeChoice(
    Object.keys(dayModels),
    "Shape of the model whose products are tuned; default: smollm2-135m, and tiny on CPU adapters",
  ),
});

export const tuneVerb = defineVerb({
  name: "tune",
  summary: summaries.tune,
  settings: tuneSettings,
  examples: ["webrlhf tune", "webrlhf tune --shape llama-3.2-1b --seconds 60"],
  interruptNote: "nothing was kept",
  async run(o, { terminal, signal }) {
    await openGpu(terminal);
    const tell = ({ what, tabled, faster, gain }: TunedStep) =>
      terminal.line(
        `${what}: ${faster ? `${faster} is ${gain.toFixed(2)} times as fast as ${tabled}` : `${tabled} stays`}`,
      );
    const shape = o.shape === null ? undefined : dayModels[o.shape];
    const { products, model, where } = await tune({ model: shape, seconds: o.seconds, tell, signal });
    const count = products === 1 ? "1 product" : `${products} products`;
    terminal.line(`${count} of ${model} will use other kernels from now on: ${where}`);
  },
});
