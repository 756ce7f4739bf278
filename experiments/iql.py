"""Implicit Q-Learning, offline.

    python experiments/iql.py

Pendulum, mixed data, three seeds of 10,000 updates: -198, -206 and -197 in 16 s on two cores of a
Xeon.

    python experiments/iql.py --dataset minari/mujoco/hopper/medium-v0 --num-seeds 3
    python experiments/iql.py --dataset d4rl/antmaze-medium-play-v2.hdf5

Scores need a task: the dataset's own, or `--env`. D4RL's `normalized_score` stands beside `return`.
"""

import dataclasses

import tyro

from jaxrl import experiment, offline
from jaxrl.agents import iql
from jaxrl.experiment import changed
from jaxrl.loops import offline as updates


@dataclasses.dataclass(frozen=True)
class Config(offline.Config):
    """Flags of Implicit Q-Learning."""

    agent: iql.Config = iql.Config()
    loop: updates.Config = updates.Config()


BASE = Config(  # the authors' code, github.com/ikostrikov/implicit_q_learning at 09d7002481
    episodes=10,
    clip_actions=1 - 1e-5,
    anneal=True,
    loop=updates.Config(report_every=5_000),
)
LOCOMOTION = changed(BASE, reward="locomotion")
ANTMAZE = changed(BASE, reward="antmaze-iql", episodes=100, agent={"expectile": 0.9, "beta": 10.0})
SMALL_DATA = changed(BASE, episodes=100, agent={"beta": 0.5, "dropout": 0.1})
# Sizes of the offline baselines in github.com/seohongpark/fql at 719d04417c.
OGBENCH = changed(BASE, episodes=50, agent={"hidden": (512,) * 4})

PRESETS = {
    "jaxrl/pendulum-mixed-v0": Config(
        steps=10_000,
        num_seeds=3,
        normalize_obs=True,
        reward="locomotion",
        agent=iql.Config(hidden=(64, 64), learning_rate=1e-3, beta=1.0),
        loop=updates.Config(batch_size=128),
    ),
    **dict.fromkeys(offline.LOCOMOTION, LOCOMOTION),
    "*antmaze*": ANTMAZE,
    "*kitchen*": SMALL_DATA,
    **dict.fromkeys(offline.ADROIT, SMALL_DATA),
    "ogbench/*": OGBENCH,
    "*": BASE,
}


def main(config: Config) -> None:
    """Implicit Q-Learning, offline."""
    offline.train(config, iql)


if __name__ == "__main__":
    experiment.launch(main, tyro.cli, PRESETS, by="dataset")
