"""Plays an environment that is served at an address by openenv-core's client: says a number from 1 on, and prints what it hears."""
import json
import sys

from openenv.core.generic_client import GenericEnvClient

address = sys.argv[1]
heard = []


def note(result):
    heard.append([result.observation, result.reward, result.done])


with GenericEnvClient(base_url=address).sync() as env, GenericEnvClient(base_url=address).sync() as other:
    note(env.reset(seed=4, number=3))
    note(other.reset(seed=4))  # a row of the environment's own
    for number in (1, 2, 3):
        note(env.step({"text": str(number)}))
    heard.append(env.state())
    try:
        env.step({"text": "4"})
    except RuntimeError as error:
        heard.append(str(error))
    note(env.reset(number=1))
    note(env.step({"text": "1"}))
print(json.dumps(heard))
