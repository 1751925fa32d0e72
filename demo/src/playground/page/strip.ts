/** The stages of a run with one number each. */
import type { Knobs } from "../protocol.ts";
import { change, type View } from "../view.ts";
import { algorithmName, percent, signed } from "../words.ts";
import { el } from "./dom.ts";

interface Card {
  readonly title: string;
  readonly value: string;
  readonly text: string;
  readonly current: boolean;
}

export class Strip {
  readonly element = el("ol", { class: "strip" });
  private shown = "";

  draw(view: View, knobs: Knobs): void {
    const cards = cardsOf(view, knobs);
    const state = JSON.stringify(cards);
    if (state === this.shown) return;
    this.shown = state;
    this.element.replaceChildren(
      ...cards.map(({ title, value, text, current }) =>
        el(
          "li",
          { "aria-current": current ? "step" : null },
          el("span", { class: "title" }, title),
          el("strong", {}, value),
          el("span", { class: "soft" }, text),
        ),
      ),
    );
  }
}

function cardsOf(view: View, knobs: Knobs): Card[] {
  const { stage, phase } = view;
  const busy = phase === "running" || phase === "pausing" || phase === "paused";
  const parameters = view.parameters > 0 ? view.parameters.toLocaleString("en") : "–";
  return [
    {
      title: "1. Language model",
      value: parameters,
      text: "parameters, already taught to tell tiny stories, good and bad ones",
      current: busy && stage === "load",
    },
    {
      title: "2. Preferences",
      value: knobs.rewardPairs.toLocaleString("en"),
      text: "pairs of stories; a noisy judge who knows the truth picks the better one",
      current: false,
    },
    {
      title: "3. Reward model",
      value: percent(view.accuracy ?? view.reward.at(-1)?.metrics.accuracy),
      text:
        view.accuracy === null
          ? "of the latest training pairs called right"
          : `of new pairs called right; a perfect judge: ${percent(view.ceiling)}`,
      current: busy && (stage === "reward" || stage === "before"),
    },
    {
      title: `4. ${algorithmName(knobs.algorithm)}`,
      value: signed(change(view, "gold")),
      text: "true reward over the start on held-out prompts, in standard deviations of its stories, ± standard error",
      current: busy && (stage === "policy" || stage === "after"),
    },
  ];
}
