"""Soft Actor-Critic, online.

    python experiments/sac.py

Pendulum-v1, three seeds of 12,000 steps: -172, -172 and -175 in 16 s on two cores of a Xeon.

    python experiments/sac.py --env gymnasium/HalfCheetah-v5 --num-seeds 3
    python experiments/sac.py --env jaxrl/CartPole-v1

A task with discrete actions is learned by discrete SAC, whose flags `--agent.` then has:
CartPole-v1, three seeds of 15,000 steps, 500, 500 and 500 in 35 s.
"""

import dataclasses

import tyro

from jaxrl import envs, experiment
from jaxrl.agents import sac, sac_discrete
from jaxrl.experiment import changed
from jaxrl.loops import off_policy


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Flags of Soft Actor-Critic."""

    agent: sac.Config = sac.Config()
    loop: off_policy.Config = off_policy.Config()


@dataclasses.dataclass(frozen=True)
class Discrete(experiment.Config):
    """Flags of Soft Actor-Critic for discrete actions."""

    agent: sac_discrete.Config = sac_discrete.Config()
    loop: off_policy.Config = off_policy.Config()


LONG = off_policy.Config(warmup=10_000, report_every=5_000)  # ten episodes of random actions
MUJOCO = Config(episodes=10, loop=LONG)  # Haarnoja et al. (2018, arXiv:1812.05905), Table 1
ON_DEVICE = Config(  # mujoco_playground `config/dm_control_suite_params.py`, less its LayerNorm
    steps=5_000_000,
    episodes=128,
    agent=sac.Config(learning_rate=1e-3, target_entropy=-0.5, normalize_obs=True),
    loop=off_policy.Config(
        envs=128,
        batch_size=512,
        capacity=4_194_304,
        warmup=8_192,
        updates_per_step=8 / 128,
        report_every=102_400,
    ),
)
LONGER = changed(ON_DEVICE, steps=10_000_000)
SLOW = ("Acrobot*", "Swimmer*", "Finger*", "Hopper*", "CheetahRun", "HumanoidWalk")
SLOW += ("PendulumSwingup*", "WalkerRun")  # the first with `?action_repeat=4` there
BRAX = changed(  # its training notebook
    ON_DEVICE,
    agent={"gamma": 0.997, "learning_rate": 6e-4},
    loop={"capacity": 1_048_576},
)

PRESETS = {
    "jaxrl/Pendulum-v1": Config(
        steps=12_000,
        num_seeds=3,
        agent=sac.Config(hidden=(64, 64), learning_rate=1e-3),
        loop=off_policy.Config(batch_size=128, capacity=100_000),
    ),
    "gymnasium/HalfCheetah-v5": changed(MUJOCO, steps=3_000_000),
    "gymnasium/Walker2d-v5": changed(MUJOCO, steps=3_000_000),
    "gymnasium/Ant-v5": changed(MUJOCO, steps=3_000_000),
    "gymnasium/Humanoid-v5": changed(MUJOCO, steps=10_000_000),
    "gymnasium/Swimmer-v5": changed(MUJOCO, steps=1_000_000, agent={"gamma": 0.999}),
    "gymnasium/*": changed(MUJOCO, steps=1_000_000),
    "brax/hopper*": changed(
        BRAX, steps=6_553_600, agent={"reward_scale": 30.0}, loop={"updates_per_step": 64 / 128}
    ),
    "brax/walker2d*": changed(
        BRAX,
        steps=7_864_320,
        agent={"reward_scale": 5.0},
        loop={"updates_per_step": 32 / 128, "batch_size": 128},
    ),
    "brax/*": ON_DEVICE,
    **dict.fromkeys([f"playground/{name}" for name in SLOW], LONGER),
    "playground/*": ON_DEVICE,
    "*": Config(steps=1_000_000, loop=LONG),
}
DISCRETE = {
    "jaxrl/CartPole-v1": Discrete(
        steps=15_000,
        num_seeds=3,
        agent=sac_discrete.Config(
            hidden=(64, 64), learning_rate=3e-3, tau=0.02, target_entropy=0.3
        ),
        loop=off_policy.Config(batch_size=128, capacity=20_000),
    ),
    "*": Discrete(steps=1_000_000, loop=LONG),
}


def main(config: Config | Discrete) -> None:
    """Soft Actor-Critic, online."""
    env = envs.make(config.env)
    algorithm = sac_discrete if env.spec.discrete else sac
    experiment.online(config, algorithm, experiment.off_policy_loop, env)


if __name__ == "__main__":
    experiment.launch(main, tyro.cli, PRESETS, DISCRETE)
