"""Asks a server through Python's openai package; prints what came as JSON. Arguments: base URL, key."""

import json
import sys

import openai

url, key = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
fixed = {"model": "tiny", "max_tokens": 12, "seed": 5}
prompt = "Once there was a cat"

whole = client.completions.create(**fixed, prompt=prompt, logprobs=2, echo=True, n=2)
streamed = ["", ""]
for chunk in client.completions.create(**fixed, prompt=prompt, n=2, stream=True):
    for choice in chunk.choices:
        streamed[choice.index] += choice.text
ids = client.completions.create(
    **fixed, prompt=prompt, extra_body={"return_token_ids": True, "min_p": 0.1, "top_k": 40, "ignore_eos": True}
)

messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
chat = client.chat.completions.create(**fixed, messages=messages, logprobs=True, top_logprobs=2)
spoken = ""
usage = None
for chunk in client.chat.completions.create(
    **fixed, messages=messages, stream=True, stream_options={"include_usage": True}
):
    if chunk.choices:
        spoken += chunk.choices[0].delta.content or ""
    usage = chunk.usage or usage

errors = {}
for name, ask in {
    "BadRequestError": lambda: client.completions.create(**fixed, prompt=prompt, temperature=-1),
    "NotFoundError": lambda: client.completions.create(model="other", prompt=prompt),
    "AuthenticationError": lambda: openai.OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list(),
}.items():
    try:
        ask()
    except openai.APIStatusError as error:
        errors[name] = [type(error).__name__, error.status_code, error.body]

print(
    json.dumps(
        {
            "models": [m.id for m in client.models.list()],
            "texts": [c.text for c in whole.choices],
            "finish": [c.finish_reason for c in whole.choices],
            "logprobs": [c.logprobs.model_dump() for c in whole.choices],
            "usage": whole.usage.model_dump(),
            "streamed": streamed,
            "token_ids": ids.choices[0].model_extra["token_ids"],
            "chat": chat.choices[0].message.content,
            "chat_logprobs": len(chat.choices[0].logprobs.content),
            "spoken": spoken,
            "chat_usage": [chat.usage.total_tokens, usage.total_tokens],
            "errors": errors,
        }
    )
)
