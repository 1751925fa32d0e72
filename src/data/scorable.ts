/** The answers of a row that a reward model can score, and the columns that the scores become. */
import { UserError } from "../runtime/errors.ts";
import { isConversation } from "./messages.ts";
import { lastTurn, type PromptCompletion } from "./records.ts";
import { type Columns, type SchemaOptions, schemaOf } from "./schemas.ts";

export interface Scorable {
  answers: PromptCompletion[];
  /** The row with a column for the scores, one per answer. */
  scored(scores: readonly number[]): Columns;
}

/**
 * `prompt` with `responses` gives `rewards`; with `chosen` and `rejected`, `chosen_score` and `rejected_score`; with
 * `response` or `completion`, or `messages` that end with the assistant's, `reward`.
 * @throws UserError naming the row, when it has no answer
 */
export function scorable(row: Columns, where: string, options: SchemaOptions): Scorable {
  const read = (columns: Columns) => answerOf(columns, where, options);
  const { prompt, response, responses, chosen, rejected, ...besides } = row;
  const to = (completion: unknown, name: string): PromptCompletion => {
    if (typeof completion === "string" || Array.isArray(completion)) {
      return read({ ...context(besides), prompt, completion });
    }
    throw new UserError(
      `${where}: ${name} must be text or messages, not ${(JSON.stringify(completion) ?? "nothing").slice(0, 60)}`,
    );
  };
  if (prompt != null && Array.isArray(responses)) {
    const answers = responses.map((response, i) => to(response, `response ${i + 1}`));
    return { answers, scored: (scores) => ({ ...row, rewards: [...scores] }) };
  }
  if (chosen != null && rejected != null) {
    const side = (answer: unknown, name: string): PromptCompletion =>
      isConversation(answer) ? read({ ...context(besides), messages: answer }) : to(answer, name);
    const answers =
      prompt == null && typeof chosen === "string"
        ? transcript(row, where, options)
        : [side(chosen, '"chosen"'), side(rejected, '"rejected"')];
    return { answers, scored: ([a, b]) => ({ ...row, chosen_score: a, rejected_score: b }) };
  }
  const one = prompt != null && response != null ? to(response, '"response"') : read(row);
  return { answers: [one], scored: ([score]) => ({ ...row, reward: score }) };
}

/** What templates may read besides the messages. */
const context = ({ tools, documents, chat_template_kwargs }: Columns): Columns => ({
  tools,
  documents,
  chat_template_kwargs,
});

function answerOf(columns: Columns, where: string, options: SchemaOptions): PromptCompletion {
  const found = [schemaOf(columns, where).read(columns, where, options)].flat()[0];
  if ("skip" in found) throw new UserError(`${where}: cannot be scored: ${found.skip}`);
  if (found.kind === "labelled") return { ...found, kind: "prompt_completion" };
  if (found.kind === "prompt_completion") return lastTurn(found);
  throw new UserError(
    `${where}: nothing to score; a row needs a prompt with a response, a completion, responses, or chosen and rejected; or messages`,
  );
}

/** Two whole transcripts, as in Anthropic's sets. */
function transcript(row: Columns, where: string, options: SchemaOptions): PromptCompletion[] {
  const found = [schemaOf(row, where).read(row, where, options)].flat()[0];
  if ("skip" in found || found.kind !== "preference") {
    throw new UserError(`${where}: cannot be scored: ${"skip" in found ? found.skip : "not a pair"}`);
  }
  const { prompt, chosen, rejected, rendered } = found;
  const side = (completion: string): PromptCompletion => ({
    kind: "prompt_completion",
    prompt,
    completion,
    ...(rendered && { rendered }),
    where,
  });
  return [side(chosen), side(rejected)];
}
