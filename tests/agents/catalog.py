"""Every agent that `tests/test_protocol.py` holds to the common promises: add yours to `CASES`."""

import dataclasses
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.agents import bc, cql, dsac, iql, ppo, sac, sac_discrete, td3_bc
from jaxrl.types import Agent, Key, PyTree, Spec, Transition

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
)
