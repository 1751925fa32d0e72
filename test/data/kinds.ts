import { readFileSync } from "node:fs";
import { ChatTemplate, Tokenizer } from "webrlhf/data";

/** A tokenizer of the fixtures, with its special tokens and its chat template. */
export async function openKind(of: {
  kind: string;
  special: Record<string, string>;
  template: string | null;
}): Promise<Tokenizer> {
  const { kind, special, template } = of;
  const file = new URL(`./fixtures/tokenizers/${kind}.json`, import.meta.url);
  const { tokenizer } = JSON.parse(readFileSync(file, "utf8")) as { tokenizer: object };
  const opened = Tokenizer.fromJson(tokenizer, special, `${kind}.json`);
  if (template) opened.chatTemplate = await ChatTemplate.load(template, kind, special);
  return opened;
}
