"""The CPU's side of the bench: matrix products with numpy, driven by JSON lines on stdin."""

import json
import sys
import time

import numpy as np


def reply(**fields):
    print(json.dumps(fields), flush=True)


blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
reply(version=f"numpy {np.__version__}, {blas['name']} {blas['version']}")

a = b = None
for line in sys.stdin:
    ask = json.loads(line)
    if "times" in ask:
        start = time.perf_counter()
        for _ in range(ask["times"]):
            np.matmul(a, b)
        reply(seconds=time.perf_counter() - start)
    else:
        m, n, k, mode = (ask[key] for key in ("m", "n", "k", "mode"))
        a = np.fromfile(ask["a"], np.float32).reshape((k, m) if mode == "TN" else (m, k))
        b = np.fromfile(ask["b"], np.float32).reshape((n, k) if mode == "NT" else (k, n))
        a = a.T if mode == "TN" else a
        b = b.T if mode == "NT" else b
        np.matmul(a, b).tofile(ask["c"])
        reply()
