"""Opens an adapter that the studio packed with PEFT, on a GGUF base, and writes the logits of a text, computed in double
precision, as float32.

Usage: python studio_trial.py '{"model": "base.gguf", "adapter": folder, "ids": [...], "out": file}'
Tensors that are missing or left over are errors.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from peft.utils import get_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

request = json.loads(sys.argv[1])
file = Path(request["model"])
base = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
base = base.double().eval()
ids = torch.tensor([request["ids"]])
with torch.no_grad():
    plain = base(ids).logits[0]
model = peft.PeftModel.from_pretrained(base, request["adapter"]).double().eval()
found = load_file(str(Path(request["adapter"]) / "adapter_model.safetensors"))
expected = get_peft_model_state_dict(model)
if {k: v.shape for k, v in expected.items()} != {k: v.shape for k, v in found.items()}:
    raise SystemExit(f"tensors differ: {sorted(set(expected) ^ set(found))}")
with torch.no_grad():
    logits = model(ids).logits[0]
Path(request["out"]).write_bytes(logits.float().numpy().tobytes())
versions = f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
print(json.dumps({"effect": (logits - plain).abs().max().item(), "versions": versions}))
