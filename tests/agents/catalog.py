"""Every agent that `tests/test_protocol.py` holds to the common promises: add yours to `CASES`."""

import dataclasses
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.agents import (
    bc,
    cql,
    decision_transformer,
    diffusion_policy,
    diffusion_ql,
    dsac,
    idql,
    iql,
    ppo,
    sac,
    sac_discrete,
    td3_bc,
)
from jaxrl.types import Agent, Key, PyTree, Segment, Spec, Transition

Change = Callable[[Any], Any]  # of a config

HIDDEN = (128, 128)  # eight shards of 16 rows, the least that is split
CALM = partial(dataclasses.replace, adam_eps=1e-3)  # so that rounding is not amplified
BATCH = 16


def normal(key: Key, spec: PyTree, shape: tuple[int, ...]) -> PyTree:
    """Normal noise of the shapes and types in `spec`, behind the axes `shape`."""
    leaves, structure = jax.tree.flatten(spec)
    keys = jax.random.split(key, len(leaves))
    noise = [
        jax.random.normal(k, (*shape, *s.shape), s.dtype) for k, s in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noise)


def actions(key: Key, spec: Spec, shape: tuple[int, ...]) -> jax.Array:
    """Uniform actions behind the axes `shape`."""
    if spec.discrete:
        return jax.random.randint(key, shape, 0, spec.num_actions)
    return jax.random.uniform(key, (*shape, *spec.action.shape), minval=-0.99, maxval=0.99)


def transitions(spec: Spec, key: Key, shape: tuple[int, ...] = (BATCH,)) -> Transition:
    """Random experience, a tenth of it terminal and another tenth cut by a time limit."""
    keys = jax.random.split(key, 5)
    ends = jax.random.uniform(keys[0], shape)
    return Transition(
        obs=normal(keys[1], spec.obs, shape),
        action=actions(keys[2], spec, shape),
        reward=jax.random.normal(keys[3], shape),
        discount=(ends > 0.1).astype(float),
        next_obs=normal(keys[4], spec.obs, shape),
        last=ends < 0.2,
    )


rollouts = partial(transitions, shape=(8, BATCH))  # `[T, B]`, for on-policy agents


def windows(spec: Spec, key: Key, length: int = 4) -> Segment:
    """Random windows `[B, K]`, the first of which are padded on the left."""
    keys = jax.random.split(key, 5)
    shape = BATCH, length
    index = jnp.arange(length)[None]
    return Segment(
        obs=normal(keys[0], spec.obs, shape),
        action=actions(keys[1], spec, shape),
        reward=jax.random.normal(keys[2], shape),
        discount=jnp.ones(shape),
        mask=index >= length - 1 - jnp.arange(BATCH)[:, None],
        timestep=jax.random.randint(keys[3], (BATCH, 1), 0, 100) + index,
        return_to_go=jax.random.normal(keys[4], shape),
    )


def every_obs(batch: Any) -> PyTree:
    """All observations of a batch of single steps. `[B]` or `[T * B]` of them"""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[batch.reward.ndim :]), batch.obs)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """An agent with networks just large enough to be split, and batches that it can learn from.

    The first case of an agent is held to every promise; a `variant` of it to those that its
    setting could break, so that the suite stays quick.
    """

    name: str  # also that of its file in tests/golden
    module: ModuleType  # has Config, make and PROGRESS
    spec: Spec
    config: Any
    batch: Callable[[Spec, Key], PyTree] = transitions
    context: Callable[[Any], PyTree] = every_obs  # of a batch, what `act` is given
    calm: Change = CALM
    variant: bool = False
    stochastic: bool = True  # whether a key makes a difference to `act`

    def make(self, change: Change | None = None) -> Agent:
        """The agent, with its config changed."""
        return self.module.make(self.spec, change(self.config) if change else self.config)

    def batch_of(self, seed: int) -> PyTree:
        """A batch that is a function of `seed` alone."""
        return self.batch(self.spec, jax.random.fold_in(jax.random.key(0), seed))


FLAT = Spec.continuous(5, 3)
CHOICES = Spec.categorical(5, 4)
PRIVILEGED = Spec(
    {name: jax.ShapeDtypeStruct((n,), jnp.float32) for name, n in {"seen": 4, "hidden": 6}.items()},
    FLAT.action,
)

SAC = sac.Config(hidden=HIDDEN, learning_rate=1e-3, temperature=0.1)
SMALL = {"hidden": HIDDEN, "learning_rate": 1e-3}
BC = bc.Config(**SMALL)
TD3_BC = td3_bc.Config(**SMALL)
IQL = iql.Config(**SMALL)
# Its gradients are sums over many actions: a near-zero one is rounding, which 1e-8 would amplify.
CQL = cql.Config(**SMALL, actor_learning_rate=1e-3, adam_eps=1e-5, actions=4)
CQL_OPTIONS = {"lagrange": "jaxcql", "backup": "max_of_min", "backup_entropy": True, "bc_steps": 2}
DSAC = dsac.Config(**SMALL)
DSAC_V1 = {"expected_value": False, "twin": False, "adaptive": False}
SAC_DISCRETE = sac_discrete.Config(**SMALL)
# It takes four optimiser steps an update, so the mesh tests take twelve.
PPO = ppo.Config(**SMALL, adam_eps=1e-3, epochs=2, minibatches=2, blocks=8)
DT = decision_transformer.Config(
    context=4, width=128, heads=2, layers=2, max_timestep=128, learning_rate=1e-3, warmup=10
)
DP = diffusion_policy.Config(
    steps=8,
    horizon=4,
    action_horizon=2,
    network="mlp",
    hidden=HIDDEN,
    embedding=16,
    learning_rate=1e-3,
    adam_eps=1e-5,  # the bias of a key has no gradient but rounding
    warmup_steps=0,
)
CHUNKS: dict[str, Any] = {"batch": windows, "context": lambda batch: batch.obs[:, :2]}
DIFFUSION_QL = diffusion_ql.Config(**SMALL, average_start=0, average_every=2)
IDQL = idql.Config(**SMALL, width=128, blocks=1, embedding=16, decay_steps=0)
WINDOWS: dict[str, Any] = {"batch": windows, "context": lambda batch: batch}
CASES = (
    Case("sac", sac, FLAT, SAC),
    Case("sac_normalized", sac, FLAT, dataclasses.replace(SAC, normalize_obs=True), variant=True),
    Case(
        "sac_fixed_temperature",
        sac,
        FLAT,
        dataclasses.replace(SAC, learn_temperature=False),
        variant=True,
    ),
    Case(
        "sac_privileged",
        sac,
        PRIVILEGED,
        dataclasses.replace(SAC, actor_keys=("seen",)),
        variant=True,
    ),
    Case("bc", bc, FLAT, BC),
    Case(
        "bc_deterministic",
        bc,
        FLAT,
        dataclasses.replace(BC, policy="deterministic"),
        variant=True,
        stochastic=False,
    ),
    Case("td3_bc", td3_bc, FLAT, TD3_BC),
    Case("cql", cql, FLAT, CQL),
    Case("cql_lagrange", cql, FLAT, dataclasses.replace(CQL, **CQL_OPTIONS), variant=True),
    Case("iql", iql, FLAT, IQL),
    Case(
        "iql_dropout",
        iql,
        FLAT,
        dataclasses.replace(IQL, dropout=0.1, decay_steps=100),
        variant=True,
    ),
    Case("dsac", dsac, FLAT, DSAC),
    Case("dsac_v1", dsac, FLAT, dataclasses.replace(DSAC, **DSAC_V1), variant=True),
    Case(
        "dsac_huber2025",
        dsac,
        FLAT,
        dataclasses.replace(DSAC, critic_loss="huber2025", normalize_obs=True),
        variant=True,
    ),
    Case("sac_discrete", sac_discrete, CHOICES, SAC_DISCRETE),
    Case("ppo", ppo, FLAT, PPO, rollouts),
    Case(
        "ppo_discrete",
        ppo,
        CHOICES,
        dataclasses.replace(PPO, normalize_obs=True, entropy_cost=0.01),
        rollouts,
        variant=True,
    ),
    Case("decision_transformer", decision_transformer, FLAT, DT, stochastic=False, **WINDOWS),
    Case(
        "decision_mamba",
        decision_transformer,
        FLAT,
        dataclasses.replace(DT, backbone="mamba"),
        variant=True,
        stochastic=False,
        **WINDOWS,
    ),
    Case("diffusion_policy", diffusion_policy, FLAT, DP, **CHUNKS),
    Case(
        "diffusion_policy_unet",
        diffusion_policy,
        FLAT,
        dataclasses.replace(
            DP, network="unet", hidden=(16, 64), prediction="v", sampler="ddim", sample_steps=4
        ),
        variant=True,
        **CHUNKS,
    ),
    Case(
        "diffusion_policy_edm",
        diffusion_policy,
        FLAT,
        dataclasses.replace(
            DP, objective="edm", network="transformer", hidden=(128,), dropout=0.1, sampler="heun"
        ),
        variant=True,
        **CHUNKS,
    ),
    Case("diffusion_ql", diffusion_ql, FLAT, DIFFUSION_QL),
    Case("idql", idql, FLAT, IDQL),
)
