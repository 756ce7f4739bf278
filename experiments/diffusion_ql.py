"""Diffusion-QL, offline.

    python experiments/diffusion_ql.py

It learns the mixed data of the pendulum, one seed of 10,000 updates, in minutes on a laptop.

    python experiments/diffusion_ql.py --dataset minari/mujoco/hopper/medium-v0

It is scored as the authors' is: one of 50 draws, by a softmax of their values.
"""

import dataclasses

import tyro

from jaxrl import experiment, offline
from jaxrl.agents import diffusion_ql
from jaxrl.experiment import changed
from jaxrl.loops import offline as updates


@dataclasses.dataclass(frozen=True)
class Config(offline.Config):
    """Flags of Diffusion-QL."""

    agent: diffusion_ql.Config = diffusion_ql.Config()
    loop: updates.Config = updates.Config()


BASE = Config(episodes=10, loop=updates.Config(report_every=5_000))
MAZE = changed(BASE, episodes=100, reward="antmaze-cql")  # whose 4 (r - 0.5) it shares

PRESETS = {
    "jaxrl/pendulum-mixed-v0": Config(
        steps=10_000,
        normalize_obs=True,
        reward="locomotion",
        agent=diffusion_ql.Config(hidden=(64, 64), learning_rate=1e-3),
        loop=updates.Config(batch_size=128),
    ),
    "*antmaze*": MAZE,
    "*": BASE,
}


def main(config: Config) -> None:
    """Diffusion-QL, offline."""
    offline.train(config, diffusion_ql, offline.drawn(diffusion_ql))


if __name__ == "__main__":
    experiment.launch(main, tyro.cli, PRESETS, by="dataset")
