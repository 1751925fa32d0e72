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

/** What stands before and behind a turn's text, in Jinja. */
type Marks = readonly [before: string, behind: string];

/** A format in which each turn stands between two marks. */
interface Format {
  /** What a conversation begins with. Default: nothing. */
  readonly first?: string;
  readonly user: Marks;
  readonly assistant: Marks;
  /** What an answer begins with and the prompt does not end with: a blank belongs to the token behind it. Default: nothing. */
  readonly lead?: string;
  /** Default: as the others. */
  readonly system?: Marks;
  /** Of turns that have another role, a tool's say; ROLE stands for its name. Default: such turns are an error. */
  readonly others?: Marks;
  /** What stands between turns. Default: nothing. */
  readonly between?: string;
  /** What stands behind the last answer of all. Default: nothing. */
  readonly last?: string;
}

const template = ({ first = "", user, assistant, lead = "", system, others, between = "", last = "" }: Format) => {
  const turn = ([before, behind]: Marks) => `${before}{{ message.content | trim }}${behind}`;
  const answer = `${lead}{{ message.content | trim }}${assistant[1]}${last && `{% if loop.last %}${last}{% endif %}`}`;
  const known = `users${system || others ? ", assistants and systems" : " and assistants"} only`;
  return [
    first,
    "{% for message in messages %}",
    between && `{% if not loop.first %}${between}{% endif %}`,
    `{% if message.role == 'assistant' %}${assistant[0]}{% generation %}${answer}{% endgeneration %}`,
    `{% elif message.role == 'user' %}${turn(user)}`,
    system && `{% elif message.role == 'system' %}${turn(system)}`,
    "{% else %}",
    others
      ? turn(others).replace("ROLE", "{{ message.role }}")
      : `{{ raise_exception('this format has ${known}, not ' + message.role) }}`,
    `{% endif %}{% endfor %}{% if add_generation_prompt %}${between}${assistant[0]}{% endif %}`,
  ]
    .filter(Boolean)
    .join("");
};

/** A format whose marks name the role: ROLE stands for it. */
const named = (before: string, behind: string): Pick<Format, "user" | "assistant" | "others"> => {
  const of = (role: string): Marks => [before.replace("ROLE", role), behind];
  return { user: of("user"), assistant: of("assistant"), others: [before, behind] };
};

const chatml = named("<|im_start|>ROLE\n", "<|im_end|>\n");
const bos = "{{ bos_token }}";
const eos = "{{ eos_token }}";

/** Llama 2's: each question with its answer is a sequence of its own, the system's message a part of the first question. */
const llama2 = [
  "{% set ns = namespace(system='') %}",
  "{% for message in messages %}",
  "{% if message.role == 'system' %}",
  "{% set ns.system = '<<SYS>>\n' + message.content | trim + '\n<</SYS>>\n\n' %}",
  `{% elif message.role == 'user' %}${bos}[INST] {{ ns.system }}{{ message.content | trim }} [/INST]`,
  "{% set ns.system = '' %}",
  `{% elif message.role == 'assistant' %}{% generation %}{{ message.content | trim }}${eos}{% endgeneration %}`,
  "{% else %}{{ raise_exception('this format has users, assistants and systems only, not ' + message.role) }}",
  "{% endif %}{% endfor %}",
].join("");

/** By families of models; the names are LMFlow's where it has them (its `conversation_template`). */
const templates = new Map<string, string>([
  ["builtin:safe-rlhf", safeRlhf],
  ["builtin:chatml", template(chatml)],
  [
    "builtin:deepseek_v2",
    template({
      first: bos,
      user: ["User: ", "\n\n"],
      assistant: ["Assistant:", eos],
      lead: " ",
      system: ["", "\n\n"],
    }),
  ],
  [
    "builtin:deepseek_v3",
    template({
      first: bos,
      user: ["<｜User｜>", ""],
      assistant: ["<｜Assistant｜>", "<｜end▁of▁sentence｜>"],
      system: ["", ""],
    }),
  ],
  ["builtin:empty", template({ user: [bos, ""], assistant: ["", eos] })],
  ["builtin:empty_no_special_tokens", template({ user: ["", ""], assistant: ["", ""] })],
  ["builtin:fox", template(named("<|ROLE|>\n", eos))],
  [
    "builtin:gemma",
    template({
      first: bos,
      user: ["<start_of_turn>user\n", "<end_of_turn>\n"],
      assistant: ["<start_of_turn>model\n", "<end_of_turn>\n"],
    }),
  ],
  ["builtin:internlm2", template({ ...chatml, first: bos })],
  ["builtin:llama2", llama2],
  ["builtin:llama3", template({ ...named("<|start_header_id|>ROLE<|end_header_id|>\n\n", "<|eot_id|>"), first: bos })],
  ["builtin:phi3", template({ ...named("<|ROLE|>\n", "<|end|>\n"), first: bos, last: eos })],
  ["builtin:qwen2", template(chatml)],
  ["builtin:yi", template(chatml)],
  ["builtin:yi1_5", template({ ...chatml, system: ["", ""] })],
  ["builtin:zephyr", template({ ...named("<|ROLE|>\n", eos), between: "{{ '\\n' }}" })],
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

/** Whether there is a chat template of that name. */
export const hasChatTemplate = (name: string): boolean => templates.has(name);

/** The template of a registered name, or null for a file's name. Throws `UserError` for an unknown "builtin:" name. */
export function builtinTemplate(name: string): string | null {
  const found = templates.get(name);
  if (found !== undefined) return found;
  if (!name.startsWith("builtin:")) return null;
  throw new UserError(`there is no chat template ${name}; there is ${[...templates.keys()].join(", ")}`);
}
