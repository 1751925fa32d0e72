"""Reads damaged files with the reference implementations, for scripts/mutate-files.mjs: one JSON line per file.

    pip install safetensors tokenizers pyarrow gguf
"""

import base64
import datetime
import io
import json
import math
import re
import struct
import sys
import tempfile

KIND = sys.argv[1]


def canonical(value):
    """The same text as test/mutations/canonical.ts."""
    if value is None:
        return "n"
    if value is True or value is False:
        return "t" if value else "f"
    if isinstance(value, str):
        return "s" + text(value)
    if isinstance(value, (int, float)):
        return "d" + bits(value)
    if isinstance(value, datetime.datetime):
        zone = value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)
        return "T" + bits((zone - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(milliseconds=1))
    if isinstance(value, datetime.date):
        return "T" + bits((value - datetime.date(1970, 1, 1)).days * 86400000)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "b" + bytes(value).hex()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(sorted((canonical(key) + ":" + canonical(inner) for key, inner in value.items()), key=lambda pair: pair.encode("utf-16-be"))) + "}"
    raise ValueError(f"no canonical form of {type(value)}")


def bits(number):
    number = float(number)
    return struct.pack(">d", math.nan if number != number else number).hex() if number == number else "7ff8000000000000"


def text(value):
    value = re.sub("[\ud800-\udfff]", "\ufffd", value)
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    return '"' + "".join(short.get(ord(c), f"\\u{ord(c):04x}" if ord(c) < 32 else c) for c in value) + '"'


def read_safetensors(content):
    import safetensors

    found = safetensors.deserialize(content)
    return [[name, info["dtype"], list(info["shape"]), bytes(info["data"])] for name, info in sorted(found, key=lambda pair: pair[0].encode("utf-16-be"))]


def read_parquet(content):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True).read(use_threads=False)
    table.validate(full=True)

    def plain(value):
        """Bytes that are text as text: many writers do not say what they mean."""
        if isinstance(value, bytes):
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                return value
        if isinstance(value, list):
            return [plain(item) for item in value]
        return {plain(key): plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    return plain(table.to_pylist(maps_as_pydicts="strict"))


def read_gguf(content):
    import gguf
    import numpy as np

    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(content)
        file.flush()
        reader = gguf.GGUFReader(file.name)
        metadata = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
        tensors = []
        for t in reader.tensors:
            values = gguf.quants.dequantize(np.asarray(t.data), t.tensor_type) if t.tensor_type.name not in ("I8",) else np.asarray(t.data)
            tensors.append([t.name, t.tensor_type.name, [int(n) for n in reversed(t.shape)], [float(x) for x in values.astype(np.float32).flatten()]])
        return {"metadata": metadata, "tensors": sorted(tensors, key=lambda t: t[0].encode("utf-16-be"))}


def read_tokenizer(content):
    from tokenizers import Tokenizer

    payload = content.decode("utf-8")
    texts = json.loads(sys.argv[2])
    tokenizer = Tokenizer.from_str(payload)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = []
    graph = json.loads(payload)
    ids_only = graph.get("normalizer") and any(t.get("normalized") for t in graph["added_tokens"])
    for t in texts:
        ids = tokenizer.encode(t, add_special_tokens=False).ids
        row = [ids, tokenizer.encode(t).ids]
        rows.append(row if ids_only else [*row, tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids)])
    return rows


def read_jsonl(content):
    def refuse(name):
        raise ValueError(name)

    lines = content.decode("utf-8").split("\n")
    return [json.loads(line, parse_constant=refuse) for line in lines if line.strip()]


READ = {name[5:]: function for name, function in list(globals().items()) if name.startswith("read_")}[KIND]

for line in sys.stdin:
    try:
        answer = {"read": canonical(READ(base64.b64decode(line)))}
    except BaseException as error:  # a panic of Rust's is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        answer = {"refused": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps(answer), flush=True)
