"""Reads damaged files with the reference implementations, for scripts/mutate-files.mjs: one JSON line per file.

    pip install safetensors tokenizers pyarrow gguf transformers torch
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
    # JavaScript has a zero with a sign.
    whole = lambda text: -0.0 if text == "-0" else int(text)
    return [json.loads(line, parse_constant=refuse, parse_int=whole) for line in lines if line.strip()]


MOST_LAYERS = 10_000
ACTIVATIONS = {
    **{name: "gelu_tanh" for name in ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")},
    **{"gelu": "gelu", "silu": "silu", "swish": "silu", "relu": "relu"},
}


def read_config(content):
    """What transformers' model of this config computes, by the fields that its code looks at."""
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    transformers.logging.set_verbosity_error()
    graph = json.loads(content.decode("utf-8"))
    for key in ("num_hidden_layers", "num_layers", "n_layer"):
        if isinstance(graph.get(key), (int, float)) and graph[key] > MOST_LAYERS:
            raise ValueError("too many layers")
    if re.search(r"\d{6}", json.dumps(graph.get("attention_types"))):
        raise ValueError("too many layers")
    if graph.get("quantization_config") is not None:
        raise ValueError("quantized")
    family = graph["model_type"]
    c = transformers.CONFIG_MAPPING[family].from_dict(graph)

    def rounded(number):
        return float(f"{number:.9g}")

    def scaling(p, layer_type):
        kind = p["rope_type"]
        if kind == "default":
            return None
        _, factor = ROPE_INIT_FUNCTIONS[kind](c, "cpu", layer_type=layer_type, **({"seq_len": 8} if kind == "dynamic" else {}))
        found = {"type": kind, "factor": p["factor"]}
        if kind == "llama3":
            found |= {"lowFreqFactor": p["low_freq_factor"], "highFreqFactor": p["high_freq_factor"]}
        if kind == "yarn":
            if found["factor"] is None:
                found["factor"] = c.max_position_embeddings / p["original_max_position_embeddings"]
            found |= {"betaFast": p.get("beta_fast") or 32, "betaSlow": p.get("beta_slow") or 1}
            found |= {"attentionFactor": rounded(factor), "truncate": bool(c.rope_parameters.get("truncate", True))}
        if kind in ("llama3", "yarn"):
            found["originalMaxPositions"] = p["original_max_position_embeddings"]
        return found

    layers = c.num_hidden_layers
    old = family in ("gpt2", "gpt_neo")
    heads = c.num_attention_heads
    kv = heads if old or family == "gpt_neox" else c.num_key_value_heads
    d = c.hidden_size // heads if old or family == "gpt_neox" else getattr(c, "head_dim", None) or c.hidden_size // heads
    if d * heads != c.hidden_size and (old or family == "gpt_neox"):
        raise ValueError("sizes")
    inner = c.n_inner if family == "gpt2" else c.intermediate_size
    if old and inner is None:
        inner = 4 * c.hidden_size
    act = c.activation_function if old else c.hidden_activation if family in ("gemma2", "gemma3_text") else c.hidden_act
    bias = getattr(c, "attention_bias", False) if family not in ("mistral", "qwen2") else False
    scale = d**-0.5
    if family in ("gemma2", "gemma3_text"):
        scale = c.query_pre_attn_scalar**-0.5
    if family == "gpt_neo" or (family == "gpt2" and not c.scale_attn_weights):
        scale = 1.0
    if getattr(c, "scale_attn_by_inverse_layer_idx", False) or getattr(c, "add_cross_attention", False):
        raise ValueError("not comparable")
    if family.startswith("gemma") and c.use_bidirectional_attention:
        raise ValueError("not comparable")
    rows = []
    for i in range(layers):
        window = None
        if family == "mistral":
            window = c.sliding_window
        elif family == "gpt_neo":
            window = c.window_size if c.attention_layers[i] == "local" else None
        elif family in ("qwen2", "qwen3", "gemma2", "gemma3_text", "smollm3"):
            if c.layer_types[i] not in ("full_attention", "sliding_attention"):
                raise ValueError(c.layer_types[i])
            slides = c.layer_types[i] == "sliding_attention" and (family != "smollm3" or c.use_sliding_window)
            window = c.sliding_window if slides else None
        rope = None
        if not old and (family != "smollm3" or c.no_rope_layers[i]):
            layer_type = c.layer_types[i] if family == "gemma3_text" else None
            p = c.rope_parameters[layer_type] if layer_type else c.rope_parameters
            # Only NeoX rotates a part of its heads; the others' code would do it where it is not the default's.
            p["rope_theta"] ** 0.5
            fraction = p.get("partial_rotary_factor", 1.0)
            if family != "gpt_neox" and fraction != 1 and p["rope_type"] == "default":
                fraction = 1.0
            rope = {"theta": p["rope_theta"], "fraction": fraction, "scaling": scaling(p, layer_type)}
        rows.append({"window": window, "rope": rope})
    ids = c.eos_token_id if isinstance(c.eos_token_id, list) else [] if c.eos_token_id is None else [c.eos_token_id]
    # What a file leaves out comes from the tokenizer, not from the class.
    one = lambda key: None if graph.get(key) is None or getattr(c, key) < 0 else getattr(c, key)
    if graph.get("eos_token_id") is None:
        ids = []
    return {
        "family": family,
        "sizes": [c.vocab_size, c.hidden_size, heads, kv, d, inner, c.max_position_embeddings],
        "normEps": c.layer_norm_epsilon if old else c.layer_norm_eps if family == "gpt_neox" else c.rms_norm_eps,
        "activation": ACTIVATIONS[act],
        "biases": {
            "gpt2": [True, True, True],
            "gpt_neo": [True, False, True],
            "gpt_neox": [True, bias, bias],
            "qwen2": [False, True, False],
        }.get(family, [bool(getattr(c, "mlp_bias", False)) and family in ("llama", "smollm3"), bias, bias]),
        "parallelResidual": family == "gpt_neox" and bool(c.use_parallel_residual),
        "attentionScale": rounded(scale),
        "softcaps": [c.attn_logit_softcapping if family == "gemma2" else None, c.final_logit_softcapping if family in ("gemma2", "gemma3_text") else None],
        "tieEmbeddings": c.tie_word_embeddings,
        "ends": [one("bos_token_id"), [id for id in ids if id >= 0], one("pad_token_id")],
        "layers": rows,
    }


for module in {"config": ["transformers", "torch"], "parquet": ["pyarrow.parquet"], "tokenizer": ["tokenizers"], "gguf": ["gguf"]}.get(KIND, []):
    __import__(module)
print("ready", flush=True)

READ = {name[5:]: function for name, function in list(globals().items()) if name.startswith("read_")}[KIND]

for line in sys.stdin:
    try:
        answer = {"read": canonical(READ(base64.b64decode(line)))}
    except BaseException as error:  # a panic of Rust's is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        answer = {"refused": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps(answer), flush=True)
