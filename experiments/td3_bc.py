"""TD3+BC, offline.

    python experiments/td3_bc.py

Pendulum, mixed data, three seeds of 10,000 updates: -177, -178 and -176 in 13 s on two cores of a
Xeon.

    python experiments/td3_bc.py --dataset minari/mujoco/hopper/medium-v0 --num-seeds 3
"""

import dataclasses

import tyro

from jaxrl import experiment, offline
from jaxrl.agents import td3_bc
from jaxrl.experiment import changed
from jaxrl.loops import offline as updates


@dataclasses.dataclass(frozen=True)
class Config(offline.Config):
    """Flags of TD3+BC."""

    agent: td3_bc.Config = td3_bc.Config()
    loop: updates.Config = updates.Config()


# The authors' code, github.com/sfujim/TD3_BC at 8791ad7d76, whose settings are those of every task.
BASE = Config(episodes=10, normalize_obs=True, loop=updates.Config(report_every=5_000))

PRESETS = {
    "jaxrl/pendulum-mixed-v0": Config(
        steps=10_000,
        num_seeds=3,
        normalize_obs=True,
        agent=td3_bc.Config(hidden=(64, 64), learning_rate=1e-3, alpha=40.0),
        loop=updates.Config(batch_size=128),
    ),
    "*antmaze*": changed(BASE, episodes=100),
    "ogbench/*": changed(BASE, episodes=50),
    "*": BASE,
}


def main(config: Config) -> None:
    """TD3+BC, offline."""
    offline.train(config, td3_bc)


if __name__ == "__main__":
    experiment.launch(main, tyro.cli, PRESETS, by="dataset")
