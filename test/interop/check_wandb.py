"""Reads an offline run's log by wandb's own definitions, with its own reader where the package still has one, and prints it."""
import json
import struct
import sys
import zlib

from wandb.proto import wandb_internal_pb2 as pb


def own_reader(path):
    """The log format of LevelDB, with zlib's checksum, as wandb's reader in Python had it."""
    with open(path, "rb") as file:
        data = file.read()
    assert struct.unpack("<4sHB", data[:7]) == (b":W&B", 0xBEE1, 0)
    at, parts = 7, []
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            assert data[at : at + left] == bytes(left)
            at += left
            continue
        checksum, length, kind = struct.unpack("<IHB", data[at : at + 7])
        payload = data[at + 7 : at + 7 + length]
        assert checksum == zlib.crc32(payload, zlib.crc32(bytes([kind]))), at
        parts.append(payload)
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []
        at += 7 + length


def records(path):
    try:
        import wandb
        from wandb.sdk.internal.datastore import DataStore
    except ImportError:
        yield from own_reader(path)
        return
    wandb._assert_is_internal_process = True
    store = DataStore()
    store.open_for_scan(path)
    while (data := store.scan_data()) is not None:
        yield data


def told(value):
    return "nan" if isinstance(value, float) and value != value else value


found = {"run": None, "config": {}, "metrics": [], "history": [], "summary": {}, "exit": [], "reader": None}
for data in records(sys.argv[1]):
    record = pb.Record()
    record.ParseFromString(data)
    kind = record.WhichOneof("record_type")
    if kind == "run":
        run = record.run
        found["run"] = {"run_id": run.run_id, "project": run.project, "display_name": run.display_name}
        found["config"] = {item.key: json.loads(item.value_json) for item in run.config.update}
    elif kind == "metric":
        found["metrics"].append(record.metric.name or record.metric.glob_name)
    elif kind == "history":
        row = {item.key: told(json.loads(item.value_json)) for item in record.history.item}
        assert row["_step"] == record.history.step.num
        found["history"].append(row)
    elif kind == "summary":
        found["summary"] = {item.key: told(json.loads(item.value_json)) for item in record.summary.update}
    elif kind == "exit":
        found["exit"].append(record.exit.exit_code)
    else:
        raise ValueError(kind)
found["reader"] = "wandb" if "wandb.sdk.internal.datastore" in sys.modules else "own"
print(json.dumps(found))
