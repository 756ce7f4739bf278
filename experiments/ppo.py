"""Proximal Policy Optimisation, online.

    python experiments/ppo.py

CartPole-v1, three seeds of 204,800 steps: 500, 500 and 500 in 18 s on two cores of a Xeon.

    python experiments/ppo.py --env brax/ant
"""

import dataclasses

import tyro

from jaxrl import envs, experiment
from jaxrl.agents import ppo
from jaxrl.envs import wrappers
from jaxrl.experiment import changed
from jaxrl.loops import acting, on_policy


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Flags of PPO."""

    anneal: bool = True  # let the learning rate fall to 0 over `steps`
    agent: ppo.Config = ppo.Config()
    loop: on_policy.Config = on_policy.Config()


DISCRETE = Config(  # CleanRL `ppo.py` and OpenAI Baselines, with a rate that suits eight envs
    env="jaxrl/CartPole-v1",
    steps=1_000_000,
    agent=ppo.Config(learning_rate=1e-3, epochs=4, minibatches=4, entropy_cost=0.01),
    loop=on_policy.Config(envs=8, steps=128),
)
MUJOCO = Config(  # CleanRL `ppo_continuous_action.py`, one set for all tasks
    steps=1_000_000,
    episodes=10,
    agent=ppo.Config(normalize_obs=True),
    loop=on_policy.Config(envs=1, steps=2048, normalize_reward=True, report_every=20_480),
)
# brax's `batch_size` counts unrolls of `unroll_length`, so that a rollout here is batch_size *
# unroll_length * num_minibatches / envs steps. Advantages run through all of it; brax's stop at the
# end of each unroll.
BRAX = Config(  # brax `notebooks/training.ipynb`, ant
    steps=50_000_000,
    anneal=False,
    episodes=128,
    agent=ppo.Config(
        gamma=0.97,
        learning_rate=3e-4,
        adam_eps=1e-8,
        max_grad_norm=None,
        epochs=4,
        minibatches=32,
        clip=0.3,
        value_clip=None,
        entropy_cost=1e-2,
        reward_scale=10.0,
        normalize_obs=True,
        squash=True,
        hidden=(32, 32, 32, 32),
        critic_hidden=(256, 256, 256, 256, 256),
        activation="swish",
    ),
    loop=on_policy.Config(envs=4096, steps=2048 * 5 * 32 // 4096, report_every=983_040),
)
PLAYGROUND = changed(  # mujoco_playground `config/dm_control_suite_params.py`
    BRAX,
    steps=60_000_000,
    agent={"gamma": 0.995, "learning_rate": 1e-3, "epochs": 16},
    loop={"envs": 2048, "steps": 1024 * 30 * 32 // 2048, "report_every": 983_040},
)
LOCOMOTION = changed(  # mujoco_playground `config/locomotion_params.py`
    BRAX,
    steps=100_000_000,
    agent={"reward_scale": 1.0, "max_grad_norm": 1.0, "hidden": (128,) * 4},
    loop={"envs": 8192, "steps": 256 * 20 * 32 // 8192, "report_every": 983_040},
)
LEGGED = changed(  # of which the critic sees what the actor does not
    LOCOMOTION,
    agent={
        "hidden": (512, 256, 128),
        "critic_hidden": (512, 256, 128),
        "actor_keys": ("state",),
        "critic_keys": ("privileged_state",),
    },
)
HUMANOID = changed(LEGGED, agent={"clip": 0.2, "entropy_cost": 5e-3})
CHOICES = ("gymnasium/CartPole*", "gymnasium/Acrobot*", "gymnasium/LunarLander-v?")
HUMANOIDS = ("playground/G1*", "playground/T1*", "playground/Apollo*", "playground/Berkeley*")
LEGS = ("playground/Barkour*", "playground/H1*", "playground/Op3*", "playground/Spot*")
PRESETS = {
    "jaxrl/CartPole-v1": changed(DISCRETE, steps=204_800, num_seeds=3),
    "jaxrl/Pendulum-v1": changed(
        MUJOCO,
        steps=409_600,
        num_seeds=3,
        agent={"gamma": 0.9, "learning_rate": 1e-3},
        loop={"envs": 16, "steps": 256},
    ),
    **dict.fromkeys(CHOICES, DISCRETE),
    "gymnasium/*": MUJOCO,
    "brax/*": BRAX,
    "playground/BallInCup": changed(PLAYGROUND, agent={"gamma": 0.95}),
    "playground/FingerSpin": changed(PLAYGROUND, agent={"gamma": 0.95}),
    "playground/Acrobot*": changed(PLAYGROUND, steps=100_000_000),
    "playground/Swimmer*": changed(PLAYGROUND, steps=100_000_000),
    "playground/WalkerRun": changed(PLAYGROUND, steps=100_000_000),
    "playground/Go1*": LEGGED,
    **dict.fromkeys(HUMANOIDS, HUMANOID),
    **dict.fromkeys(LEGS, LOCOMOTION),
    "playground/*": PLAYGROUND,
    "*": DISCRETE,
}


def completed(config: Config) -> Config:
    """The settings with what the agent must know of the run."""
    blocks = config.blocks or acting.default_blocks(config.loop.envs)
    updates = -(-config.steps // config.loop.iteration_steps) if config.anneal else 0
    agent = dataclasses.replace(config.agent, blocks=blocks, total_updates=updates)
    return dataclasses.replace(config, blocks=blocks, agent=agent)


def main(config: Config) -> None:
    """Proximal Policy Optimisation, online."""
    config = completed(config)
    env = envs.make(config.env)
    env = wrappers.squash(env) if config.agent.squash else env
    experiment.online(config, ppo, experiment.on_policy_loop, env)


if __name__ == "__main__":
    experiment.launch(main, tyro.cli, PRESETS)
