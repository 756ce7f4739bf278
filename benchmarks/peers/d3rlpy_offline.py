"""IQL, CQL and the Decision Transformer of d3rlpy, driven by `benchmarks.peer`.

It runs in an environment of its own, so it imports nothing of ours. Networks and batches are those
of `benchmarks.cases`; a batch is drawn from the dataset for every update, as `fit` does.
"""

import sys
from functools import partial

import numpy as np

ANSWERS, sys.stdout = sys.stdout, sys.stderr  # the library prints

import serving  # noqa: E402
from d3rlpy.algos import CQLConfig, DecisionTransformerConfig, IQLConfig  # noqa: E402
from d3rlpy.dataset import MDPDataset  # noqa: E402
from d3rlpy.models import VectorEncoderFactory  # noqa: E402
from d3rlpy.optimizers import AdamWFactory, WarmupSchedulerFactory  # noqa: E402

OBSERVATIONS, ACTIONS, HELD, EPISODE = 17, 6, 131_072, 1024
BATCH, WINDOWS = 256, 64  # transitions, and windows of a transformer
PACKAGES = ("d3rlpy", "torch", "gymnasium", "numpy")


def dataset() -> MDPDataset:
    """Random experience of episodes that time limits end."""
    rng = np.random.default_rng(0)
    ends = np.arange(1, HELD + 1) % EPISODE == 0
    return MDPDataset(
        observations=rng.normal(size=(HELD, OBSERVATIONS)).astype(np.float32),
        actions=rng.uniform(-1, 1, (HELD, ACTIONS)).astype(np.float32),
        rewards=rng.normal(size=HELD).astype(np.float32),
        terminals=np.zeros(HELD, np.float32),
        timeouts=ends.astype(np.float32),
    )


def iql() -> IQLConfig:
    """Two hidden layers of 256 in every network, which is the default."""
    return IQLConfig(batch_size=BATCH)


def cql() -> CQLConfig:
    """Three hidden layers of 256 in every network, ten actions of each kind."""
    encoder = VectorEncoderFactory([256, 256, 256])
    return CQLConfig(
        batch_size=BATCH,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        n_action_samples=10,
    )


def transformer() -> DecisionTransformerConfig:
    """The paper's network, with its rates; without attention's dropout, as ours."""
    optimizer = AdamWFactory(
        weight_decay=1e-4,
        clip_grad_norm=0.25,
        lr_scheduler_factory=WarmupSchedulerFactory(10_000),
    )
    return DecisionTransformerConfig(
        batch_size=WINDOWS,
        context_size=20,
        max_timestep=EPISODE,
        encoder_factory=VectorEncoderFactory([128]),
        optim_factory=optimizer,
        num_layers=3,
        num_heads=1,
        attn_dropout=0.0,
    )


def updates() -> serving.Play:
    """A function that samples and updates once."""
    data, config = dataset(), {"iql": iql, "cql": cql, "dt": transformer}[sys.argv[2]]()
    algorithm = config.create(device="cpu")
    if isinstance(config, DecisionTransformerConfig):
        algorithm.create_impl((OBSERVATIONS,), ACTIONS)
        draw = partial(data.sample_trajectory_batch, WINDOWS, config.context_size)
    else:
        algorithm.build_with_dataset(data)
        draw = partial(data.sample_transition_batch, BATCH)
    return lambda: algorithm.update(draw()), 1


def main() -> None:
    """Answer until there is nothing more to read."""
    serving.introduce(PACKAGES, "cpu", ANSWERS)
    serving.serve({"updates": updates}, ANSWERS)


if __name__ == "__main__":
    main()
