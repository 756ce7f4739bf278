"""Decision Transformer, and Decision Mamba, offline.

    python experiments/decision_transformer.py

It learns the mixed data of the pendulum, one seed of 6,000 updates, in minutes on a laptop, and
gets about what `evaluate.py --targets -1200 -600 -300 -150` asks for.

    python experiments/decision_transformer.py --dataset minari/mujoco/hopper/medium-v0
    python experiments/decision_transformer.py --agent.backbone mamba --agent.learning-rate 1e-3

It is scored by what it reaches when asked for `--target`, by default the highest return in the
data.
"""

import dataclasses
from typing import Any

import tyro

from jaxrl import experiment, offline, policies
from jaxrl.agents import decision_transformer
from jaxrl.data import segments
from jaxrl.data.dataset import Dataset, returns
from jaxrl.errors import UserError
from jaxrl.experiment import changed
from jaxrl.loops import offline as updates
from jaxrl.scaling import Scaling
from jaxrl.types import Agent, Policy


@dataclasses.dataclass(frozen=True)
class Config(offline.Config):
    """Flags of the Decision Transformer."""

    target: float | None = None  # return to ask for; by default the highest in the data
    agent: decision_transformer.Config = decision_transformer.Config()
    loop: updates.Config = updates.Config(batch_size=64, report_every=5_000)


# The authors' code, github.com/kzl/decision-transformer.
BASE = Config(steps=100_000, episodes=20, normalize_obs=True)

PRESETS = {
    "jaxrl/pendulum-mixed-v0": changed(
        BASE,
        steps=6_000,
        target=-150.0,  # of a controller that swings up at once, from a random start
        agent={
            "context": 10,
            "width": 64,
            "layers": 2,
            "learning_rate": 1e-3,
            "warmup": 300,
            "max_timestep": 200,
        },
        loop={"report_every": 1_000},
    ),
    "*halfcheetah*": changed(BASE, target=12_000.0),
    "*hopper*": changed(BASE, target=3_600.0),
    "*walker2d*": changed(BASE, target=5_000.0),
    "*": BASE,
}


def windows(config: Config, dataset: Dataset, scaling: Scaling) -> offline.View:
    """Windows to train on, and the return that the policy asks for."""
    del scaling
    if config.reward != "raw":
        raise UserError(f"reward: found {config.reward}, expected raw; see agent.return_scale")
    target = float(returns(dataset).max()) if config.target is None else config.target
    context = config.agent.context

    def policy(agent: Agent, config: Any) -> Policy:
        return policies.windowed(agent, dataset.spec, config.context, target)

    data = segments.contexts(dataset, context)
    return offline.View(data, segments.draw, policy, facts={"target": target})


def main(config: Config) -> None:
    """Decision Transformer, and Decision Mamba, offline."""
    offline.train(config, decision_transformer, windows)


if __name__ == "__main__":
    experiment.launch(main, tyro.cli, PRESETS, by="dataset")
