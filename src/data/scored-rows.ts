/**
 * Files of responses and their rewards, one row per prompt. Read are
 * - JSON lines `{"prompt": text or messages, "responses": [..], "rewards": [..]}` (Online-RLHF; rewards once scored),
 * - its older form, one object `{"type": "text_only", "instances": [{"prompt", "responses", "rewards"}, ..]}`, and
 * - LMFlow's containers text_to_textlist `{"input", "output": [text, ..]}` and text_to_scored_textlist
 *   `{"input", "output": [{"score", "text"}, ..]}`.
 * Written are the JSON lines, with columns of ours that the others do not mind: `id` (the prompt's place in its dataset),
 * `ended` (which responses ended by themselves), `token_ids` (the responses as they were sampled) and `episodes` (of responses that were
 * played in an environment: what came first, and which turns are the policy's).
 */
import { UserError } from "../runtime/errors.ts";
import type { ChatMessage } from "./chat-template.ts";
import { checkMessages } from "./messages.ts";
import { type DataSource, readRows } from "./readers.ts";
import { episodeColumns, readEpisode, type SampledEpisode } from "./sampled-episodes.ts";
import type { Columns } from "./schemas.ts";

/** The responses to one prompt. */
export interface SampledRow {
  prompt: string | ChatMessage[];
  responses: string[];
  id?: number;
  ended?: boolean[];
  /** Ends with the end token where the response ended by itself. */
  tokenIds?: number[][];
  /** Where the responses are episodes: what `tokenIds` are of. */
  episodes?: SampledEpisode[];
  /** "rewards.jsonl:12" */
  where?: string;
}

/** With a reward for each response. */
export interface ScoredRow extends SampledRow {
  rewards: number[];
}

/**
 * The rows of a file, in its order.
 * @throws UserError naming file and line: missing columns, values of the wrong type, a different number of rewards
 */
export async function* readSampledRows(source: DataSource): AsyncGenerator<SampledRow | ScoredRow> {
  let empty = true;
  for await (const { value, where } of readRows(source)) {
    const { type, instances } = (value ?? {}) as Columns;
    if (!Array.isArray(instances)) {
      yield rowOf(value, where);
      empty = false;
      continue;
    }
    for (const [i, instance] of instances.entries()) {
      const place = `${where}, ${typeof type === "string" ? type : "instances"} ${i + 1}`;
      yield rowOf(instance, place);
      empty = false;
    }
  }
  if (empty) throw new UserError(`${typeof source === "string" ? source : source.name}: there are no rows in here`);
}

/** The row with its rewards, which must be there. */
export function scored(row: SampledRow | ScoredRow): ScoredRow {
  if ("rewards" in row) return row;
  throw new UserError(`${row.where ?? "a row"} has no rewards: score the responses first (webrlhf annotate)`);
}

/** A row as one line of JSON, without its end. */
export function rowLine(row: SampledRow | ScoredRow): string {
  const { id, prompt, responses, ended, tokenIds, episodes } = row;
  return JSON.stringify({
    ...(id !== undefined && { id }),
    prompt,
    responses,
    ...("rewards" in row && { rewards: row.rewards }),
    ...(ended && { ended }),
    ...(tokenIds && { token_ids: tokenIds }),
    ...(episodes && { episodes: episodes.map(episodeColumns) }),
  });
}

/**
 * Rows as LMFlow's container: text_to_scored_textlist where they have rewards, else text_to_textlist.
 * @param textOf the prompt as text, e.g. by a chat template
 */
export function lmflowContainer(
  rows: readonly (SampledRow | ScoredRow)[],
  textOf: (row: SampledRow) => string,
): object {
  const isScored = rows.length > 0 && rows.every((row) => "rewards" in row);
  const instances = rows.map((row) => ({
    input: textOf(row),
    output: isScored ? row.responses.map((text, i) => ({ score: (row as ScoredRow).rewards[i], text })) : row.responses,
  }));
  return { type: isScored ? "text_to_scored_textlist" : "text_to_textlist", instances };
}

/** Checks one row, whatever its form. */
function rowOf(value: unknown, where: string): SampledRow | ScoredRow {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UserError(`${where}: a row must be an object with "prompt" and "responses"`);
  }
  const row = value as Columns;
  const prompt = promptOf(row.prompt ?? row.input ?? row.context_messages, where);
  const output = row.responses ?? row.output;
  if (!Array.isArray(output)) {
    throw new UserError(`${where}: "responses" (in LMFlow's files "output") must be a list, not ${shown(output)}`);
  }
  const withScores = output.length > 0 && typeof output[0] === "object";
  const responses = output.map((item: unknown, i) => {
    const text = withScores ? (item as Columns | null)?.text : item;
    if (typeof text === "string") return text;
    throw new UserError(
      `${where}: response ${i + 1} must be ${withScores ? '{"score", "text"}' : "text"}, not ${shown(item)}`,
    );
  });
  const perResponse = <T>(name: string, list: unknown, isRight: (item: unknown) => boolean, what: string): T[] => {
    if (!Array.isArray(list)) throw new UserError(`${where}: "${name}" must be a list, not ${shown(list)}`);
    if (list.length !== responses.length) {
      throw new UserError(
        `${where}: ${list.length} ${name} for ${responses.length} responses; there must be one for each`,
      );
    }
    const wrong = list.findIndex((item) => !isRight(item));
    if (wrong >= 0) throw new UserError(`${where}: ${name} ${wrong + 1} must be ${what}, not ${shown(list[wrong])}`);
    return list as T[];
  };
  const tokenIds = isThere(row.token_ids)
    ? perResponse<number[]>("token_ids", row.token_ids, isIds, "a list of token ids")
    : null;
  const episodes = isThere(row.episodes)
    ? perResponse<unknown>("episodes", row.episodes, () => tokenIds !== null, "beside token_ids")
    : null;
  const scores = withScores ? output.map((item: Columns) => item.score) : row.rewards;
  return {
    prompt,
    responses,
    ...(typeof row.id === "number" && { id: row.id }),
    ...(isThere(row.ended) && {
      ended: perResponse<boolean>("ended", row.ended, (x) => typeof x === "boolean", "true or false"),
    }),
    ...(tokenIds && { tokenIds }),
    ...(tokenIds &&
      episodes && {
        episodes: episodes.map((one, i) => readEpisode(one, tokenIds[i].length, `${where}: episode ${i + 1}`)),
      }),
    ...(isThere(scores) && { rewards: perResponse<number>("rewards", scores, Number.isFinite, "a finite number") }),
    where,
  };
}

const isThere = (value: unknown): boolean => value !== null && value !== undefined;
const isIds = (value: unknown): boolean => Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0);
const shown = (value: unknown): string => (JSON.stringify(value) ?? "nothing").slice(0, 60);

function promptOf(value: unknown, where: string): string | ChatMessage[] {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return checkMessages(value, "prompt", where);
  throw new UserError(`${where}: "prompt" (in LMFlow's files "input") must be text or messages, not ${shown(value)}`);
}
