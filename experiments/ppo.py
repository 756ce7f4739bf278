"""Proximal Policy Optimisation, online.

python experiments/ppo.py
python experiments/ppo.py --env brax/ant
"""

import dataclasses

import tyro

from jaxrl import envs, experiment, policies
from jaxrl.agents import ppo
from jaxrl.envs import wrappers
from jaxrl.loops import acting, evaluate, on_policy


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Flags of PPO."""

    anneal: bool = True  # let the learning rate fall to 0 over `steps`
    agent: ppo.Config = ppo.Config()
    loop: on_policy.Config = on_policy.Config()


DISCRETE = ppo.Config(  # CleanRL `ppo.py` and OpenAI Baselines, with a rate that suits eight envs
    learning_rate=1e-3, epochs=4, minibatches=4, entropy_cost=0.01
)
BRAX = ppo.Config(  # brax `notebooks/training.ipynb`, ant
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
)
PLAYGROUND = dataclasses.replace(  # mujoco_playground `config/dm_control_suite_params.py`
    BRAX, gamma=0.995, learning_rate=1e-3, epochs=16
)
MUJOCO = dataclasses.replace(ppo.Config(), normalize_obs=True)  # CleanRL `ppo_continuous_action.py`

PRESETS = {
    "jaxrl/CartPole-v1": Config(
        env="jaxrl/CartPole-v1",
        steps=204_800,
        num_seeds=3,
        agent=DISCRETE,
        loop=on_policy.Config(envs=8, steps=128),
    ),
    "jaxrl/Pendulum-v1": Config(
        steps=409_600,
        num_seeds=3,
        agent=dataclasses.replace(MUJOCO, gamma=0.9, learning_rate=1e-3),
        loop=on_policy.Config(envs=16, steps=256, normalize_reward=True),
    ),
    "gymnasium/*": Config(
        steps=1_000_000,
        episodes=10,
        agent=MUJOCO,
        loop=on_policy.Config(envs=1, steps=2048, normalize_reward=True, report_every=20_480),
    ),
    "brax/*": Config(
        steps=50_000_000,
        anneal=False,
        episodes=128,
        agent=BRAX,
        loop=on_policy.Config(envs=4096, steps=5, report_every=1_024_000),
    ),
    "playground/BallInCup": Config(agent=dataclasses.replace(PLAYGROUND, gamma=0.95)),
    "playground/FingerSpin": Config(agent=dataclasses.replace(PLAYGROUND, gamma=0.95)),
    "playground/*": Config(agent=PLAYGROUND),
    "*": Config(steps=1_000_000, agent=DISCRETE, loop=on_policy.Config(envs=8, steps=128)),
}
for name in [name for name in PRESETS if name.startswith("playground/")]:
    PRESETS[name] = dataclasses.replace(
        PRESETS[name],
        steps=60_000_000,
        anneal=False,
        episodes=128,
        loop=on_policy.Config(envs=2048, steps=30, report_every=1_228_800),
    )


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
    agent = ppo.make(env.spec, config.agent)
    policy = policies.memoryless(agent)
    score = evaluate.make(env, policy, config.episodes)
    with experiment.Session(config, ppo, env.spec) as session:
        for run, metrics in session.train(experiment.on_policy_loop(config, agent, env)):
            session.log(metrics | session.scores(score, run))
        session.record(env, policy)


if __name__ == "__main__":
    experiment.launch(main, tyro.cli, PRESETS)
