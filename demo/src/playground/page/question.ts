/** Which question is set, and the links that set one. */
import { exhibitOf, exhibits, knobsOf } from "../exhibits.ts";
import { knobsToHash } from "../knobs.ts";
import type { Knobs } from "../protocol.ts";
import { el, setText } from "./dom.ts";

export class Question {
  /** Takes the focus when a link sets another question, so that it is seen and heard. */
  readonly heading = el("h2", { class: "question", tabindex: -1 });
  readonly list: HTMLElement;
  private readonly links: readonly HTMLAnchorElement[];

  /** @param set takes a question's knobs */
  constructor(set: (knobs: Knobs) => void) {
    this.links = exhibits.map((exhibit) => {
      const link = el("a", { href: knobsToHash(knobsOf(exhibit)) }, exhibit.name);
      link.addEventListener("click", (event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return; // another tab
        event.preventDefault();
        history.pushState(null, "", link.href);
        set(knobsOf(exhibit));
        this.heading.focus({ preventScroll: true });
        this.heading.scrollIntoView({ block: "start" });
      });
      return link;
    });
    this.list = el(
      "section",
      { "aria-labelledby": "exhibits" },
      el("h2", { id: "exhibits" }, "Try"),
      el(
        "ul",
        { class: "exhibits" },
        ...exhibits.map(({ question }, i) => el("li", {}, this.links[i], ` ${question}`)),
      ),
    );
  }

  draw(knobs: Knobs): void {
    const exhibit = exhibitOf(knobs);
    setText(this.heading, exhibit ? `${exhibit.name}. ${exhibit.question}` : "With values of your own");
    for (const [i, link] of this.links.entries()) {
      if (exhibits[i] === exhibit) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }
}
