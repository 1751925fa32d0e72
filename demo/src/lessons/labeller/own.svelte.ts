/** The visitor's own labels on this page, and the judges made of the first 5, 10, … of them. */
import { type Answer, fromJsonLines, keepAnswers, type Label, labelsOf, readAnswers } from "../../lib/labels.ts";
import type { LessonRun } from "../../lib/lesson/run.svelte.ts";
import { training } from "../../lib/training.svelte.ts";
import { EVERY } from "./lesson.ts";
import type { Shown } from "./sequence.ts";

/** A judge of the first `count` labels, with the numbers of the program's event "measured". */
export interface OwnJudge {
  count: number;
  values: Record<string, number>;
}

export class OwnLabels {
  answers: readonly Answer[] = $state.raw([]);
  /** Somebody else's labels, out of a file. */
  others: readonly Label[] | null = $state.raw(null);
  judges: readonly OwnJudge[] = $state.raw([]);
  /** A judge is being trained. */
  training = $state(false);
  /** Answers could not be kept in this browser. */
  unkept = $state(false);
  failure = $state("");
  readonly labels = $derived(labelsOf(this.answers));
  private readonly run: LessonRun;
  private readonly abort = new AbortController();

  constructor(run: LessonRun) {
    this.run = run;
  }

  /** Takes what this browser kept; once the page is alive. */
  open(): void {
    this.answers = readAnswers(localStorage);
    this.changed();
  }

  close(): void {
    this.abort.abort();
  }

  answer({ prompt, left, right }: Shown, choice: Answer["choice"]): void {
    this.set([...this.answers, { prompt, left, right, choice }]);
  }

  undo(): void {
    this.set(this.answers.slice(0, -1));
  }

  clear(): void {
    this.set([]);
  }

  /** Compares with a neighbour's file from now on. */
  takeIn(content: string): void {
    this.others = fromJsonLines(content);
    this.judges = [];
    this.changed();
  }

  /** What a run is given of it; a run asks for at least five labels. */
  private changed(): void {
    const { labels, others } = this;
    this.run.give({
      ...(labels.length > 0 && { labels: labels.map((label) => ({ ...label })) }),
      ...(others && { others: others.map((label) => ({ ...label })) }),
    });
    void this.teach();
  }

  private set(answers: readonly Answer[]): void {
    const before = this.labels;
    this.answers = answers;
    this.unkept = !keepAnswers(localStorage, answers);
    const same = this.labels.findIndex((label, i) => JSON.stringify(label) !== JSON.stringify(before[i]));
    const unchanged = same < 0 ? this.labels.length : same;
    this.judges = this.judges
      .filter(({ count }) => count <= unchanged)
      .map((judge) => (judge.count + EVERY <= unchanged ? judge : withoutLater(judge)));
    this.changed();
  }

  /** Trains the judges that are due, one after another. */
  private async teach(): Promise<void> {
    if (this.training) return;
    this.training = true;
    this.failure = "";
    try {
      for (;;) {
        const { labels, others } = this;
        const due = dueOf(this.judges, labels.length);
        if (due === null || (!training.device && !training.lacking)) return;
        const later = labels.slice(due, due + EVERY);
        const question = { labels: labels.slice(0, due), later: later.length === EVERY ? later : [], others };
        const values = await this.judged(question);
        if (this.labels !== labels) continue; // answers changed meanwhile
        const made = { count: due, values };
        this.judges = [...this.judges.filter(({ count }) => count !== due), made].sort((a, b) => a.count - b.count);
      }
    } catch (error) {
      if (!this.abort.signal.aborted) this.failure = (error as Error).message;
    } finally {
      this.training = false;
    }
  }

  /** Goes on where the device was not known before. */
  ready(): void {
    void this.teach();
  }

  private async judged(question: {
    labels: Label[];
    later: Label[];
    others: readonly Label[] | null;
  }): Promise<Record<string, number>> {
    if (training.lacking) {
      const { judgeHere } = await import("./without-gpu.ts");
      return judgeHere(question);
    }
    const { labels, later, others } = question;
    const plain = (all: readonly Label[]) => all.map((label) => ({ ...label }));
    const argument = {
      labels: plain(labels),
      later: plain(later),
      others: others && plain(others),
      seed: this.run.seed,
    };
    return this.run.query<Record<string, number>>("judge", argument, this.abort.signal);
  }
}

const withoutLater = ({ count, values }: OwnJudge): OwnJudge => {
  const { later_same: _, later_of: __, ...rest } = values;
  return { count, values: rest };
};

/** The next judge to train: one that is missing, or one that five later labels can be told by now. */
function dueOf(judges: readonly OwnJudge[], labels: number): number | null {
  for (let count = EVERY; count <= labels; count += EVERY) {
    const made = judges.find((judge) => judge.count === count);
    if (!made || (count + EVERY <= labels && made.values.later_of === undefined)) return count;
  }
  return null;
}
