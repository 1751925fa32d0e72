"""Opens folders that webrlhf wrote with Hugging Face transformers and prints what it computes, one JSON line for each.

Usage: python check_transformers.py <folder> ... [request.json]

The request (all fields optional) may hold `ids`: token id sequences to run, `texts`: strings to tokenize,
`newTokens`: how many tokens to generate greedily after each sequence (EOS does not stop), and `resave`: a subfolder
name under which transformers saves what it opened, in files of at most `maxShardSize`. Without `ids`, one short sequence of small ids is run. Weights that
are missing, unexpected or of another shape are errors.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

torch.set_num_threads(1)


def open_model(folder: Path):
    config = AutoConfig.from_pretrained(folder)
    scorer = any(a.endswith("ForSequenceClassification") for a in config.architectures or [])
    cls = AutoModelForSequenceClassification if scorer else AutoModelForCausalLM
    model, info = cls.from_pretrained(folder, output_loading_info=True)
    problems = {k: sorted(map(str, v)) for k, v in info.items() if v}
    if problems:
        raise SystemExit(f"{folder}: weights do not fit: {json.dumps(problems)}")
    return model, scorer


def check(folder: Path, request: dict) -> dict:
    model, scorer = open_model(folder)
    if request.get("resave"):
        limit = {"max_shard_size": request["maxShardSize"]} if request.get("maxShardSize") else {}
        model.save_pretrained(folder / request["resave"], **limit)
    model = model.double().eval()
    sequences = request.get("ids") or [[i % model.config.vocab_size for i in (3, 5, 7, 4, 6)]]
    answer = {
        "transformers": transformers.__version__,
        "architecture": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tied": bool(model.config.tie_word_embeddings),
        "ids": sequences,
        "logits": [],
    }
    with torch.no_grad():
        for ids in sequences:
            answer["logits"].append(model(torch.tensor([ids])).logits[0].tolist())
        if not scorer and request.get("newTokens"):
            answer["greedy"] = []
            for ids in sequences:
                grown = list(ids)
                for _ in range(request["newTokens"]):
                    grown.append(int(model(torch.tensor([grown])).logits[0, -1].argmax()))
                answer["greedy"].append(grown[len(ids) :])
    generation = folder / "generation_config.json"
    if generation.exists():
        config = transformers.GenerationConfig.from_pretrained(folder)
        answer["generation"] = {k: getattr(config, k) for k in ("bos_token_id", "eos_token_id", "pad_token_id")}
    if (folder / "tokenizer.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        texts = request.get("texts") or ["Once upon a time, there was a cat."]
        encoded = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]
        answer["tokenizer"] = {
            "class": type(tokenizer).__name__,
            "length": len(tokenizer),
            "specials": {k: getattr(tokenizer, k) for k in ("bos_token", "eos_token", "pad_token", "unk_token")},
            "ids": encoded,
            "decoded": [tokenizer.decode(e, clean_up_tokenization_spaces=False) for e in encoded],
        }
    return answer


def main() -> None:
    folders = [Path(a) for a in sys.argv[1:] if not a.endswith(".json")]
    requests = [json.loads(Path(a).read_text()) for a in sys.argv[1:] if a.endswith(".json")]
    for folder in folders:
        print(json.dumps(check(folder, requests[0] if requests else {})), flush=True)


if __name__ == "__main__":
    main()
