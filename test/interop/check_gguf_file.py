"""Reads a GGUF file with the reference package and prints, as JSON, its metadata and the SHA-256 of every tensor's values.

Usage: python check_gguf_file.py <file>
"""

import hashlib
import json
import sys

from gguf import GGUFReader
from gguf.quants import dequantize

reader = GGUFReader(sys.argv[1])
fields = {name: field.contents() for name, field in reader.fields.items()}
tensors = {}
for tensor in reader.tensors:
    values = dequantize(tensor.data, tensor.tensor_type).astype("<f4")
    tensors[tensor.name] = {"type": tensor.tensor_type.name, "sha256": hashlib.sha256(values.tobytes()).hexdigest()}
print(json.dumps({"fields": fields, "tensors": tensors}))
