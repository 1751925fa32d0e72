/** A visitor's labels on answers of the loaded model: which pair lies on the table, and what was decided. */
import { type Answer, keepAnswers, type Label, labelsOf, readAnswers, type Shelf } from "../lib/labels.ts";
import type { PairEvent } from "./protocol.ts";

/** Two answers to a message, which may still be on their way. */
export interface Table {
  prompt: string;
  left: string;
  right: string;
  /** Both are whole, and differ. */
  ready: boolean;
}

const place = "webrlhf/studio-labels";
const empty = (prompt: string): Table => ({ prompt, left: "", right: "", ready: false });

export class Labelling {
  answers: Answer[] = $state.raw([]);
  table: Table | null = $state(null);
  /** Both answers were the same: there is nothing to decide. */
  same = $state(false);
  private ended = 0;
  private readonly shelf: Shelf;

  constructor(shelf: Shelf) {
    this.shelf = shelf;
    this.answers = readAnswers(shelf, place);
  }

  get labels(): Label[] {
    return labelsOf(this.answers);
  }

  lay(prompt: string): void {
    this.table = empty(prompt);
    this.same = false;
    this.ended = 0;
  }

  hear(event: PairEvent): void {
    if (!this.table) return;
    if (event.type === "begin") {
      this.lay(this.table.prompt);
      return;
    }
    this.table[event.side] += event.text;
    if (event.finish && ++this.ended === 2) {
      this.same = this.table.left === this.table.right;
      this.table.ready = !this.same;
    }
  }

  /** Takes the decision on what lies there; false where nothing may be decided. */
  decide(choice: Answer["choice"]): boolean {
    if (!this.table?.ready) return false;
    const { prompt, left, right } = this.table;
    this.keep([...this.answers, { prompt, left, right, choice }]);
    this.table = null;
    return true;
  }

  undo(): void {
    this.keep(this.answers.slice(0, -1));
  }

  clear(): void {
    this.keep([]);
  }

  private keep(answers: Answer[]): void {
    this.answers = answers;
    keepAnswers(this.shelf, answers, place);
  }
}

/**
 * Labels as rows of preferences in TRL's columns.
 * @param chats the model answers messages: then prompt and answers are messages, so that its chat template is used
 */
export function rowsOf(labels: readonly Label[], chats: boolean): string {
  const message = (role: string, content: string) => (chats ? [{ role, content }] : content);
  return labels
    .map(({ prompt, chosen, rejected }) => {
      const row = {
        prompt: message("user", prompt),
        chosen: message("assistant", chosen),
        rejected: message("assistant", rejected),
      };
      return `${JSON.stringify(row)}\n`;
    })
    .join("");
}
