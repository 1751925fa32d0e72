/** A conversation with the model before and after training. */
import { type ChatEvent, type Message, type Side, sides } from "./protocol.ts";

/** What one side has said of an answer. */
export interface Said {
  text: string;
  tokens: number;
  logProb: number;
  ids: number[];
  over: boolean;
}

/** A message, and what was answered by each side that was there. */
export interface Turn {
  question: string;
  answers: Partial<Record<Side, Said>>;
}

const nothing = (): Said => ({ text: "", tokens: 0, logProb: 0, ids: [], over: false });

export class Answering {
  turns: Turn[] = $state([]);

  /** Adds a message, and gives each side's conversation up to it. */
  ask(question: string, both: boolean): Partial<Record<Side, Message[]>> {
    const asked = sides.filter((side) => side === "before" || both);
    const conversations = Object.fromEntries(
      asked.map((side): [Side, Message[]] => {
        const past = this.turns.flatMap(({ question: content, answers }): Message[] => {
          const said = answers[side];
          // A side that was not there hears what the other one answered.
          const answer = said ?? answers.before;
          return [
            { role: "user", content },
            { role: "assistant", content: answer?.text ?? "" },
          ];
        });
        return [side, [...past, { role: "user", content: question }]];
      }),
    );
    const answers = Object.fromEntries(asked.map((side) => [side, nothing()]));
    this.turns.push({ question, answers });
    return conversations;
  }

  hear(event: ChatEvent): void {
    const turn = this.turns.at(-1);
    if (!turn) return;
    if (event.type === "begin") {
      for (const side of sides) if (turn.answers[side]) turn.answers[side] = nothing();
      return;
    }
    const said = turn.answers[event.side];
    if (!said) return;
    said.text += event.text;
    said.tokens += event.ids.length;
    said.ids.push(...event.ids);
    said.logProb += event.logProbs.reduce((sum, value) => sum + value, 0);
    said.over = event.finish !== null;
  }

  clear(): void {
    this.turns = [];
  }
}
