"""Behaviour cloning, offline.

    python experiments/bc.py

Pendulum, best tenth of the mixed data, three seeds of 5,000 updates: -166, -176 and -176 in 5 s on
two cores of a Xeon.

    python experiments/bc.py --dataset minari/mujoco/hopper/medium-v0 --top-fraction 0.1
"""

import dataclasses

import tyro

from jaxrl import experiment, offline
from jaxrl.agents import bc
from jaxrl.experiment import changed
from jaxrl.loops import offline as updates


@dataclasses.dataclass(frozen=True)
class Config(offline.Config):
    """Flags of behaviour cloning."""

    agent: bc.Config = bc.Config()
    loop: updates.Config = updates.Config()


# The policy, rate and sizes of IQL's code, beside which cloning is the usual baseline.
BASE = Config(episodes=10, clip_actions=1 - 1e-5, loop=updates.Config(report_every=5_000))
LONG = changed(BASE, episodes=100)
OGBENCH = changed(BASE, episodes=50, agent={"hidden": (512,) * 4})  # sizes of fql at 719d04417c

PRESETS = {
    "jaxrl/pendulum-mixed-v0": Config(
        steps=5_000,
        num_seeds=3,
        top_fraction=0.1,
        agent=bc.Config(hidden=(64, 64), learning_rate=1e-3),
        loop=updates.Config(batch_size=128, report_every=500),
    ),
    "*antmaze*": LONG,
    "*kitchen*": LONG,
    **dict.fromkeys(offline.ADROIT, LONG),
    "ogbench/*": OGBENCH,
    "*": BASE,
}


def main(config: Config) -> None:
    """Behaviour cloning, offline; with `--top-fraction 0.1` of the best tenth of the data (%BC)."""
    offline.train(config, bc)


if __name__ == "__main__":
    experiment.launch(main, tyro.cli, PRESETS, by="dataset")
