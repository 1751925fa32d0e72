"""Opens a folder of event files with TensorBoard, as a person does, and prints what its pages are given."""
import json
import sys
import time
import urllib.parse
import urllib.request

from tensorboard import program

board = program.TensorBoard()
board.configure(argv=[None, "--logdir", sys.argv[1], "--host", "127.0.0.1", "--port", "0", "--reload_interval", "1"])
url = board.launch()


def get(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + "data/plugin/" + path, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


end = time.time() + 60
tags = {}
while not tags and time.time() < end:
    time.sleep(0.5)
    tags = get("scalars/tags")
scalars = {}
for run, found in tags.items():
    for tag in found:
        query = urllib.parse.urlencode({"run": run, "tag": tag})
        # Numbers that are not finite come as texts.
        scalars[tag] = [[step, value] for _, step, value in get("scalars/scalars?" + query)]
texts = {run: found for run, found in get("text/tags").items()}
run, names = next(iter(texts.items()))
text = get("text/text?" + urllib.parse.urlencode({"run": run, "tag": names[0]}))
experiment = get("hparams/experiment", {})
print(json.dumps({"scalars": scalars, "texts": names, "text": text[0]["text"], "hparams": experiment["hparamInfos"]}))
