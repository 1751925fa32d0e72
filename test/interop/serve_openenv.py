"""Serves a small environment by openenv-core: a number from 1 to 7 to guess, which follows from the seed. Prints its port."""
import socket

import uvicorn
from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app


class Guess(Action):
    message: str


class Said(Observation):
    text: str


class Numbers(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self.secret = 0
        self.tries = 0

    def reset(self, seed=None, episode_id=None, **others):
        self.secret = 1 + (seed or 0) % 7
        self.tries = 0
        return Said(text="guess a number from 1 to 7", done=False, reward=None)

    def step(self, action, timeout_s=None, **others):
        self.tries += 1
        right = action.message.strip() == str(self.secret)
        over = right or self.tries == 3
        return Said(text="yes" if right else "no", done=over, reward=1.0 if right else 0.0)

    @property
    def state(self):
        return State(step_count=self.tries)


app = create_fastapi_app(Numbers, Guess, Said, max_concurrent_envs=4)
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
