"""Reads or fills a Hugging Face cache with huggingface_hub.

    check_hub.py read <repo> <file> ...   prints {"file": sha256 of what hf_hub_download gives}, and the snapshot's folder
    check_hub.py fill <repo>              snapshot_download through HF_ENDPOINT, prints the folder
"""

import hashlib
import json
import sys

from huggingface_hub import hf_hub_download, snapshot_download

action, repo, *files = sys.argv[1:]
out = {"folder": snapshot_download(repo)}
for file in files:
    with open(hf_hub_download(repo, file), "rb") as opened:
        out[file] = hashlib.sha256(opened.read()).hexdigest()
print(json.dumps(out))
