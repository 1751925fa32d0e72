"""Renders conversations with every chat template that TRL brings, as transformers does. Prints [{...}] for the test."""

import json
import re
from pathlib import Path

import trl
from transformers.utils.chat_template_utils import render_jinja_template

CONVERSATIONS = [
    [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Q1 \u00e9\U0001f642 "},
        {"role": "assistant", "content": "A1\n\nx"},
        {"role": "user", "content": "Q2"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nA2"},
    ],
    [{"role": "user", "content": "Only"}],
    [
        {"role": "user", "content": "w?"},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": "x"}}}]},
        {"role": "tool", "name": "f", "content": "42"},
        {"role": "assistant", "content": "It is 42."},
    ],
]
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}

out = []
for file in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
    source = file.read_bytes().decode()
    for messages in CONVERSATIONS:
        for prompted in (False, True):
            for tools in (None, TOOLS):
                case = {"name": file.name, "source": source, "messages": messages, "prompted": prompted, "tools": tools, "tokens": TOKENS}
                try:
                    rendered, spans = render_jinja_template(
                        [messages], chat_template=source, tools=tools, add_generation_prompt=prompted,
                        return_assistant_tokens_mask=re.search(r"{%-?\s*generation", source) is not None, **TOKENS)
                    case |= {"text": rendered[0], "spans": spans[0] if spans else []}
                except Exception as error:
                    case["error"] = str(error)
                out.append(case)
print(json.dumps(out))
