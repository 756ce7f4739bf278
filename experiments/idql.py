"""IDQL, offline: IQL's critics pick among the draws of a diffusion policy.

    python experiments/idql.py

It learns the mixed data of the pendulum, one seed of 10,000 updates, in minutes on a laptop.

    python experiments/idql.py --dataset minari/mujoco/hopper/medium-v0
    python experiments/idql.py --dataset d4rl/antmaze-medium-play-v2.hdf5
"""

import dataclasses

import tyro

from jaxrl import experiment, offline
from jaxrl.agents import idql
from jaxrl.experiment import changed
from jaxrl.loops import offline as updates


@dataclasses.dataclass(frozen=True)
class Config(offline.Config):
    """Flags of IDQL."""

    agent: idql.Config = idql.Config()
    loop: updates.Config = updates.Config()


BASE = Config(  # the authors' code
    steps=3_000_000,
    episodes=10,
    clip_actions=1 - 1e-5,
    anneal=True,
    loop=updates.Config(batch_size=512, report_every=10_000),
)

PRESETS = {
    "jaxrl/pendulum-mixed-v0": Config(
        steps=10_000,
        normalize_obs=True,
        reward="locomotion",
        anneal=True,
        agent=idql.Config(hidden=(64, 64), width=64, blocks=2, learning_rate=1e-3),
        loop=updates.Config(batch_size=128),
    ),
    **dict.fromkeys(offline.LOCOMOTION, changed(BASE, reward="locomotion")),
    "*antmaze*": changed(BASE, reward="antmaze-iql", episodes=100, agent={"expectile": 0.9}),
    "*": BASE,
}


def main(config: Config) -> None:
    """IDQL, offline."""
    offline.train(config, idql, offline.drawn(idql))


if __name__ == "__main__":
    experiment.launch(main, tyro.cli, PRESETS, by="dataset")
