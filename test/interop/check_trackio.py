"""Serves Trackio from a folder of its own (serve FOLDER), or prints what is in its database (read FOLDER PROJECT)."""
import json
import os
import sys

what, folder, *rest = sys.argv[1:]
os.environ["TRACKIO_DIR"] = folder
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"
import trackio
from trackio.sqlite_storage import SQLiteStorage

if what == "serve":
    shown = trackio.show(open_browser=False, block_thread=False)
    print(json.dumps({"url": shown[3]}), flush=True)
    sys.stdin.read()
else:
    (run,) = SQLiteStorage.get_run_records(rest[0])
    rows = SQLiteStorage.get_logs(rest[0], run["name"], run_id=run["id"])
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float) and value != value:
                row[name] = "nan"
    print(json.dumps({"run": run["name"], "rows": rows, "config": SQLiteStorage.get_run_config(rest[0], run["name"], run["id"])}))
