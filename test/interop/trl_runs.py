"""What runs of TRL's trainers beside webrlhf's share: a tokenizer, settings of a run, trainers that keep every step's numbers, and how
a script is asked and answers."""

import json
import os
import sys
import tempfile
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
warnings.filterwarnings("ignore")

import torch  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast  # noqa: E402

torch.set_num_threads(1)


def numbers_tokenizer(size):
    """A tokenizer whose words are their own ids; 0 fills up, and 1 ends a text."""
    names = ["<pad>", "<end>", *map(str, range(2, size))]
    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="<pad>")


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def settings(**own):
    """A run that computes in f32 on the processor, logs every step and saves nothing."""
    return dict(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to="none", logging_steps=1, save_strategy="no",
        gradient_checkpointing=False, disable_tqdm=True, **own,
    )  # fmt: skip


def passes(steps):
    """The sizes of a run's passes, which are given step by step."""
    return dict(per_device_train_batch_size=len(steps[0][0]), gradient_accumulation_steps=len(steps[0]))


def recorded(trainer_class, metrics=True):
    """The trainer, keeping every step's numbers as they are before a log rounds them: those that it publishes, too, if asked for."""

    class Recorded(trainer_class):
        def __init__(self, *args, **kwargs):
            self.steps, self.losses = [], []
            super().__init__(*args, **kwargs)

        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            self.losses.append(float(loss))
            return loss

        def log(self, logs, *args, **kwargs):
            if "grad_norm" in logs:
                published = self._metrics["train"] if metrics else {}
                numbers = {name: sum(values) / len(values) for name, values in published.items()}
                last = {"grad_norm": float(logs["grad_norm"]), "learning_rate": logs["learning_rate"]}
                self.steps.append({**numbers, "loss": sum(self.losses), **last})
                self.losses = []
            return super().log(logs, *args, **kwargs)

    return Recorded


def answer(losses, run):
    """Answers `losses FILE` or `runs FILE` with a JSON document; `run` gives the steps of each of the request's runs."""
    import trl

    mode, path = sys.argv[1:]
    out, sys.stdout = sys.stdout, sys.stderr
    with open(path) as file:
        request = json.load(file)
    if mode == "losses":
        found = losses(request)
    else:
        found = {"version": trl.__version__, "runs": [run(one, request) for one in request["runs"]]}
    json.dump(found, out)
