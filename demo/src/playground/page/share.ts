/** What a visitor can take away: a link to the run on the page, and its numbers. */
import { knobsToHash } from "../knobs.ts";
import { fileName, runLines } from "../saved.ts";
import type { Session } from "../session.ts";
import { el, setText } from "./dom.ts";

export class Share {
  readonly element: HTMLElement;
  private readonly save = el("button", { type: "button" }, "Download run");
  private readonly told = el("span", { class: "soft", role: "status" });
  /** The link that `told` speaks of. */
  private about = "";
  private readonly session: Session;

  constructor(session: Session) {
    this.session = session;
    const copy = el("button", { type: "button" }, "Copy link");
    copy.addEventListener("click", () => void this.copy());
    this.save.addEventListener("click", () => this.download());
    this.element = el("div", { class: "buttons", role: "group", "aria-label": "Share" }, copy, this.save, this.told);
  }

  /** The page's address with the knobs of what is shown. */
  get link(): string {
    return new URL(knobsToHash(this.session.knobs), location.href).href;
  }

  update(): void {
    this.save.disabled = this.session.view.phase !== "done";
    if (this.about !== this.link) this.tell("");
  }

  private async copy(): Promise<void> {
    const { link } = this;
    history.replaceState(null, "", link);
    this.tell(""); // so that the same words are heard again
    const copied = await navigator.clipboard?.writeText(link).then(
      () => true,
      () => false,
    );
    this.tell(copied ? "Link copied." : "This browser lets no page copy; the link stands in the address bar.");
  }

  private download(): void {
    const { view, knobs } = this.session;
    const url = URL.createObjectURL(new Blob([runLines(view, knobs, this.link)], { type: "application/jsonl" }));
    el("a", { href: url, download: fileName(knobs) }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    this.tell(`Saved as ${fileName(knobs)}.`);
  }

  private tell(text: string): void {
    this.about = this.link;
    setText(this.told, text);
  }
}
