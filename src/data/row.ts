import type { RowSchema } from "./schemas.ts";

/** One row of a dataset file and where it stands, e.g. "pairs.jsonl:12". */
export interface Row {
  value: unknown;
  where: string;
  /** All that the data say, where `value` is only what somebody took of it. */
  whole?: Record<string, unknown>;
  /** How it becomes a record, where its columns do not decide that. */
  schema?: RowSchema;
  /** Whether its values are cells of a table, which are texts whatever they mean. */
  cells?: boolean;
}

/** How files without rows of their own are cut into rows. */
export interface RowOptions {
  /** How plain text is cut into records: at blank lines (default) or not at all. */
  textSplit?: "blank" | "whole";
}
