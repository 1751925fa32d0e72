/** Chat templates by name, for `chat_template_path`: those that come with this program, and registered ones. */
import { UserError } from "../runtime/errors.ts";

/**
 * The prompt format of safe-rlhf and PaddleNLP: "BEGINNING OF CONVERSATION: ", for each of the person's turns
 * "USER: <text> ASSISTANT:", for each of the assistant's its text and the end token. It knows no system messages.
 */
const safeRlhf = [
  "{{ bos_token }}BEGINNING OF CONVERSATION: ",
  "{% for message in messages %}",
  "{% if message.role == 'user' %}USER: {{ message.content }} ASSISTANT:",
  "{% elif message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}",
  "{% else %}{{ raise_exception('this format has users and assistants only, not ' + message.role) }}{% endif %}",
  "{% endfor %}",
].join("");

/**
 * A format in which each turn stands between two marks: `begin(role)`, the text, `end`.
 * @param first what the conversation begins with
 * @param roles how the roles are called in it; default: as everywhere
 */
const marked = (first: string, begin: string, end: string, roles: Readonly<Record<string, string>> = {}): string => {
  const called = (role: string) => begin.replace("ROLE", roles[role] ?? role);
  return [
    first,
    "{% for message in messages %}",
    "{% if message.role == 'assistant' %}",
    `${called("assistant")}{% generation %}{{ message.content | trim }}${end}{% endgeneration %}`,
    "{% elif message.role == 'user' %}",
    `${called("user")}{{ message.content | trim }}${end}`,
    roles.system === ""
      ? "{% else %}{{ raise_exception('this format has users and assistants only, not ' + message.role) }}"
      : `{% else %}${begin.replace("ROLE", "{{ message.role }}")}{{ message.content | trim }}${end}`,
    "{% endif %}{% endfor %}",
    `{% if add_generation_prompt %}${called("assistant")}{% endif %}`,
  ].join("");
};

const templates = new Map<string, string>([
  ["builtin:safe-rlhf", safeRlhf],
  ["builtin:chatml", marked("", "<|im_start|>ROLE\n", "<|im_end|>\n")],
  [
    "builtin:gemma",
    marked("{{ bos_token }}", "<start_of_turn>ROLE\n", "<end_of_turn>\n", { assistant: "model", system: "" }),
  ],
  ["builtin:llama3", marked("{{ bos_token }}", "<|start_header_id|>ROLE<|end_header_id|>\n\n", "<|eot_id|>")],
]);

/**
 * Registers a chat template, so that `chat_template_path` may name it.
 * @param name without slashes and dots, so that no file is meant
 * @param source in Jinja, as Hugging Face's templates are
 * @throws UserError for a name that is taken or could be a file's
 */
export function registerChatTemplate(name: string, source: string): void {
  if (!/^[\w:-]+$/.test(name)) {
    throw new UserError(`"${name}": a chat template's name is letters, digits, colons and hyphens`);
  }
  if (templates.has(name)) throw new UserError(`there is a chat template "${name}" already; choose another name`);
  templates.set(name, source);
}

/** The template of a registered name, or null for a file's name. Throws `UserError` for an unknown "builtin:" name. */
export function builtinTemplate(name: string): string | null {
  const found = templates.get(name);
  if (found !== undefined) return found;
  if (!name.startsWith("builtin:")) return null;
  throw new UserError(`there is no chat template ${name}; there is ${[...templates.keys()].join(", ")}`);
}
