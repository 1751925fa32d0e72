/** The same prompts answered before and after training, side by side. */
import { showNumber } from "webrlhf/report";
import type { Sample } from "webrlhf/rlhf";
import type { View } from "../view.ts";
import { el } from "./dom.ts";

export class Samples {
  readonly element = el("div", { class: "samples" });
  private shown = "";

  draw({ samplesBefore, samplesAfter, samplesStep }: View): void {
    const state = JSON.stringify([samplesBefore, samplesAfter, samplesStep]);
    if (state === this.shown) return;
    this.shown = state;
    if (samplesBefore.length === 0) {
      this.element.replaceChildren(el("p", { class: "soft" }, "They come when the reward model is trained."));
      return;
    }
    const steps = samplesStep === 1 ? "1 step" : `${samplesStep} steps`;
    this.element.replaceChildren(
      ...samplesBefore.map((before, i) =>
        el(
          "article",
          {},
          el("h3", {}, el("span", { class: "tag" }, "Prompt: "), before.prompt),
          el(
            "div",
            { class: "pair" },
            answer("Before", before),
            samplesAfter[i] ? answer(`After ${steps}`, samplesAfter[i]) : waiting(),
          ),
        ),
      ),
    );
  }
}

const answer = (title: string, { response, reward, gold }: Sample): HTMLElement =>
  el(
    "div",
    {},
    el("h4", {}, title),
    el("p", { class: "story" }, response.trim() || "(an empty response)"),
    el("p", { class: "scores" }, `reward model ${score(reward)} · truth ${score(gold)}`),
  );

const score = (value: number | undefined) => (value === undefined ? "–" : showNumber(Math.round(value * 100) / 100));

const waiting = (): HTMLElement =>
  el("div", { class: "soft" }, el("h4", {}, "After"), el("p", {}, "The policy has not learned long enough yet."));
