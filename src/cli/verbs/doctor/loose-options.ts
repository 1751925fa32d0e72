/** A trainer's options after the doctor's own. */
import { UserError } from "../../../runtime/errors.ts";

/** `--learning_rate 1e-3 --use_peft --top_k=5` as a record. */
export function looseOptions(words: readonly string[]): Record<string, string> {
  const values: Record<string, string> = {};
  for (let i = 0; i < words.length; i++) {
    const [name, ...rest] = words[i].split("=");
    if (!name.startsWith("--")) throw new UserError(`"${words[i]}" is not an option of the trainer`);
    const next = words[i + 1];
    if (rest.length > 0) values[name.slice(2)] = rest.join("=");
    else if (next !== undefined && !next.startsWith("--")) values[name.slice(2)] = words[++i];
    else values[name.slice(2)] = "true";
  }
  return values;
}
