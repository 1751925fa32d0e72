"""Opens a tokenizer folder written by this project with the Rust `tokenizers` and with transformers' AutoTokenizer.

Reads {"folder": ..., "texts": [...]} from standard input, prints {"rust": [[ids]], "auto": [[ids]], "decoded": [...],
"eos": id, "pad": id}.
"""

import json
import sys

from tokenizers import Tokenizer
from transformers import AutoTokenizer

job = json.load(sys.stdin)
rust = Tokenizer.from_file(job["folder"] + "/tokenizer.json")
auto = AutoTokenizer.from_pretrained(job["folder"])
ids = [rust.encode(text).ids for text in job["texts"]]
print(
    json.dumps(
        {
            "rust": ids,
            "auto": [auto(text)["input_ids"] for text in job["texts"]],
            "decoded": [auto.decode(row) for row in ids],
            "eos": auto.eos_token_id,
            "pad": auto.pad_token_id,
        }
    )
)
