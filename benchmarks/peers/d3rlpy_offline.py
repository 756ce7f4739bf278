"""IQL and CQL of d3rlpy, driven by `benchmarks.peer`: a line in, and out comes a window's rate.

It runs in an environment of its own, so it imports nothing of ours. Networks and batches are those
of `benchmarks.cases`; a batch is drawn from the dataset for every update, as `fit` does.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import metadata

import numpy as np

ANSWERS, sys.stdout = sys.stdout, sys.stderr  # the library prints

from d3rlpy.algos import CQLConfig, IQLConfig  # noqa: E402
from d3rlpy.dataset import MDPDataset  # noqa: E402
from d3rlpy.models import VectorEncoderFactory  # noqa: E402

OBSERVATIONS, ACTIONS, BATCH, HELD, EPISODE = 17, 6, 256, 131_072, 1024
PACKAGES = ("d3rlpy", "torch", "gymnasium", "numpy")


def dataset() -> MDPDataset:
    """Random experience of episodes that time limits end."""
    rng = np.random.default_rng(0)
    ends = np.arange(1, HELD + 1) % EPISODE == 0
    return MDPDataset(
        observations=rng.normal(size=(HELD, OBSERVATIONS)).astype(np.float32),
        actions=rng.uniform(-1, 1, (HELD, ACTIONS)).astype(np.float32),
        rewards=rng.normal(size=HELD).astype(np.float32),
        terminals=np.zeros(HELD, np.float32),
        timeouts=ends.astype(np.float32),
    )


def iql() -> IQLConfig:
    """Two hidden layers of 256 in every network, which is the default."""
    return IQLConfig(batch_size=BATCH)


def cql() -> CQLConfig:
    """Three hidden layers of 256 in every network, ten actions of each kind."""
    encoder = VectorEncoderFactory([256, 256, 256])
    return CQLConfig(
        batch_size=BATCH,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        n_action_samples=10,
    )


def updates(config: IQLConfig | CQLConfig, data: MDPDataset) -> Callable[[], None]:
    """A function that samples and updates once."""
    algorithm = config.create(device="cpu")
    algorithm.build_with_dataset(data)
    return lambda: algorithm.update(data.sample_transition_batch(BATCH))


def rate(play: Callable[[], None], seconds: float) -> float:
    """Calls of `play` per second."""
    begin, calls, passed = time.perf_counter(), 0, 0.0
    while not calls or passed < seconds:
        play()
        calls, passed = calls + 1, time.perf_counter() - begin
    return calls / passed


def main() -> None:
    """Answer until there is nothing more to read."""
    seconds, config = float(sys.argv[1]), {"iql": iql, "cql": cql}[sys.argv[2]]()
    versions = {package: metadata.version(package) for package in PACKAGES}
    about = {"versions": versions, "platform": "cpu"}
    print(json.dumps(about), file=ANSWERS, flush=True)
    play = updates(config, dataset())
    for _ in sys.stdin:
        print(json.dumps(rate(play, seconds)), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
