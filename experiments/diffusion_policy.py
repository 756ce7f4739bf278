"""Diffusion Policy, offline.

    python experiments/diffusion_policy.py

Detour, three seeds of 3,000 updates: all of 200 episodes arrive, in 27 s on two cores of a Xeon.
A Gaussian drives into the obstacle (`bc.py --dataset jaxrl/detour-v0`).

    python experiments/diffusion_policy.py --agent.sampler ddim --agent.sample-steps 5 --video
    python experiments/diffusion_policy.py --dataset minari/mujoco/hopper/expert-v0

With a goal, an observation, the policy heads for it. It is trained on windows with what came later
in their episodes as goals:

    python experiments/diffusion_policy.py --agent.goal-size 2 --agent.goal 1 0 --agent.guidance 2

Push-T, from 200 demonstrations of the scripted expert in `pusht.py`: one seed of 20,000 updates
covers 0.62 of what success asks for (mean of the last three reports, 50 starts each), and 13 of the
50 succeed, in 9 min on two shared cores. A Gaussian at equal updates: 0.48, and 6 of 50.

    python experiments/diffusion_policy.py --dataset local/data/pusht

It reads the block's corners and the agent's position, 18 numbers, where the published policies read
nine points, 20 numbers; and its network is small: the score is no reproduction of the paper's.
"""

import dataclasses
from functools import partial

import tyro

from jaxrl import experiment, offline, policies
from jaxrl.agents import diffusion_policy
from jaxrl.data import segments
from jaxrl.data.dataset import Dataset
from jaxrl.data.limits import ranges
from jaxrl.errors import UserError
from jaxrl.experiment import changed
from jaxrl.loops import offline as updates
from jaxrl.scaling import Scaling
from jaxrl.types import Spec


@dataclasses.dataclass(frozen=True)
class Config(offline.Config):
    """Flags of Diffusion Policy."""

    agent: diffusion_policy.Config = diffusion_policy.Config()
    loop: updates.Config = updates.Config(report_every=5_000)


# The authors' code, for low-dimensional observations
BASE = Config(steps=500_000, episodes=50, anneal=True)

PRESETS = {
    "jaxrl/detour-v0": changed(
        BASE,
        dataset="jaxrl/detour-v0",
        steps=3_000,
        num_seeds=3,
        episodes=200,
        agent={
            "prediction": "sample",
            "steps": 20,
            "network": "mlp",
            "hidden": (128, 128, 128),
            "embedding": 32,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
        },
        loop={"report_every": 1_000},
    ),
    # A denoiser that two cores train; `--agent.network unet --agent.hidden 256 512 1024` and the
    # rest of BASE are the paper's. Horizons of 2, 16 and 8 are the paper's here too.
    "*pusht*": changed(
        BASE,
        steps=20_000,
        agent={
            "prediction": "sample",
            "steps": 50,
            "network": "residual",
            "hidden": (128,) * 3,
            "embedding": 64,
            "learning_rate": 1e-3,
        },
        loop={"batch_size": 128, "report_every": 4_000},
    ),
    "*": BASE,
}


def chunks(config: Config, dataset: Dataset, scaling: Scaling) -> offline.View:
    """Windows to train on, and the policy that executes a part of every chunk."""
    del scaling
    if config.normalize_obs:
        raise UserError("normalize_obs: found True, expected False; limits are mapped to [-1, 1]")
    agent = config.agent
    diffusion_policy.check(dataset.spec, agent)
    check_goal(agent, dataset.spec)
    before, after = agent.obs_horizon - 1, agent.action_horizon - 1
    known = ranges(dataset)
    return offline.View(
        data=segments.chunks(dataset, agent.horizon, before, after),
        draw=segments.draw_hindsight if agent.goal else segments.draw,
        policy=partial(policies.own, algorithm=diffusion_policy, spec=dataset.spec),
        greedy=False,
        facts={"sampled": True},
        made={"data": known._replace(goal=known.obs) if agent.goal else known},
    )


def check_goal(agent: diffusion_policy.Config, spec: Spec) -> None:
    """Goals are whole observations here, and one is needed to be scored by.

    Raises:
      UserError: goals without one of their size, or of another size than an observation's.
    """
    if len(agent.goal) != agent.goal_size:
        found = f"{len(agent.goal)} numbers and goal_size {agent.goal_size}"
        raise UserError(f"agent.goal: found {found}, expected as many of them as goal_size says")
    shape = getattr(spec.obs, "shape", None)
    if agent.goal and shape != (agent.goal_size,):
        raise UserError(
            f"agent.goal_size: found {agent.goal_size}, but a goal is an observation, and those of "
            f"the dataset are {spec.obs}"
        )


def main(config: Config) -> None:
    """Diffusion Policy, offline."""
    offline.train(config, diffusion_policy, chunks)


if __name__ == "__main__":
    experiment.launch(main, tyro.cli, PRESETS, by="dataset")
