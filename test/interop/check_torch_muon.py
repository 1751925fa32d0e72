"""Takes steps of torch.optim.Muon and torch.optim.AdamW on given gradients, and prints the weights.

Usage: python check_torch_muon.py request.json

A request holds tensors by name (rows of numbers), the gradients of every step, the names that Muon takes, the learning rate, and the
weight decay. Printed are the weights after the last step: as torch has them, whose iterations are in bf16, and with the same
iterations in f32. A JSON document goes to stdout.
"""

import json
import sys

import torch
from torch.optim import _muon

torch.set_num_threads(1)


def in_f32(grad, coefficients, steps, eps):
    """torch's iterations, line by line, but in the gradient's type."""
    a, b, c = coefficients
    x = grad.T if grad.size(0) > grad.size(1) else grad
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if grad.size(0) > grad.size(1) else x


def weights(request):
    parameters = {name: torch.nn.Parameter(torch.tensor(data)) for name, data in request["start"].items()}
    by_muon = [parameters[name] for name in request["muon"]]
    others = [p for name, p in parameters.items() if name not in request["muon"]]
    lr, decay = request["lr"], request["weightDecay"]
    optimizers = [
        torch.optim.Muon(by_muon, lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, weight_decay=decay),
    ]
    for grads in request["grads"]:
        for name, p in parameters.items():
            p.grad = torch.tensor(grads[name])
        torch.nn.utils.clip_grad_norm_(parameters.values(), request["maxGradNorm"])
        for optimizer in optimizers:
            optimizer.step()
    return {name: p.detach().flatten().tolist() for name, p in parameters.items()}


with open(sys.argv[1]) as f:
    request = json.load(f)
found = {"version": torch.__version__, "bf16": weights(request)}
_muon._zeropower_via_newtonschulz = in_f32
found["f32"] = weights(request)
json.dump(found, sys.stdout)
