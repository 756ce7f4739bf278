"""DSAC-T, distributional Soft Actor-Critic with three refinements, online.

python experiments/dsac.py
python experiments/dsac.py --env gymnasium/HalfCheetah-v5 --agent.critic-loss huber2025
"""

import dataclasses

import tyro

from jaxrl import envs, experiment, policies
from jaxrl.agents import dsac
from jaxrl.loops import evaluate, off_policy


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """Flags of DSAC-T."""

    agent: dsac.Config = dsac.Config()
    loop: off_policy.Config = off_policy.Config()


PRESETS = {
    "jaxrl/Pendulum-v1": Config(
        steps=20_000,
        num_seeds=3,
        agent=dsac.Config(hidden=(64, 64), learning_rate=3e-4, temperature=1.0),
        loop=off_policy.Config(batch_size=128, capacity=100_000),
    ),
    # The authors' networks, rates and warm-up (github.com/Jingliang-Duan/DSAC-v2); they take
    # 20 environment steps per update, `--loop.updates-per-step 0.05`.
    "*": Config(
        steps=1_000_000,
        episodes=10,
        loop=off_policy.Config(warmup=10_000, report_every=5_000),
    ),
}


def main(config: Config) -> None:
    """DSAC-T, distributional Soft Actor-Critic with three refinements, online."""
    env = envs.make(config.env)
    agent = dsac.make(env.spec, config.agent)
    policy = policies.memoryless(agent)
    score = evaluate.make(env, policy, config.episodes)
    with experiment.Session(config, dsac, env.spec) as session:
        for run, metrics in session.train(experiment.off_policy_loop(config, agent, env)):
            session.log(metrics | session.scores(score, run))
        session.record(env, policy)


if __name__ == "__main__":
    experiment.launch(main, tyro.cli, PRESETS)
