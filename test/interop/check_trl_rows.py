"""What TRL's trainers put into the model: the token rows of their own preparation and collation, and which tokens are learned.

Usage: check_trl_rows.py FOLDER: it holds model/ and scorer/, each with its tokenizer, and jobs.json, a list of {method, rows,
options}. Prints {version, results}: for each job a list of {ids, learned}, learned[t] for token t + 1.
"""

import json
import logging
import sys
from pathlib import Path

import trl
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

disable_progress_bars()
logging.disable(logging.WARNING)
folder = Path(sys.argv[1])
METHODS = {
    "sft": (trl.SFTTrainer, trl.SFTConfig, AutoModelForCausalLM, "model"),
    "dpo": (trl.DPOTrainer, trl.DPOConfig, AutoModelForCausalLM, "model"),
    "reward": (trl.RewardTrainer, trl.RewardConfig, AutoModelForSequenceClassification, "scorer"),
}


def rows_of(method: str, rows: list, options: dict) -> list:
    make, config, kind, name = METHODS[method]
    trainer = make(
        model=kind.from_pretrained(folder / name),
        args=config(output_dir=str(folder / "out"), report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, **options),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder / name),
    )
    found = []
    for example in trainer.train_dataset:
        batch = trainer.data_collator([example])
        for i, attended in enumerate(batch["attention_mask"].tolist()):
            ids = batch["input_ids"][i].tolist()
            if "labels" in batch:
                learned = [int(label != -100) for label in batch["labels"][i].tolist()]
            else:
                learned = batch["completion_mask"][i].tolist() if "completion_mask" in batch else [0] * len(ids)
            found.append(
                {
                    "ids": [token for token, here in zip(ids, attended) if here],
                    "learned": [mark for mark, here in zip(learned, attended) if here][1:],
                }
            )
    return found


jobs = json.loads((folder / "jobs.json").read_text())
print(json.dumps({"version": trl.__version__, "results": [rows_of(**job) for job in jobs]}))
