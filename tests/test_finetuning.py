from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import finetuning, loops
from jaxrl.agents import cql, iql
from jaxrl.errors import UserError
from jaxrl.loops import acting
from jaxrl.types import Agent, Spec
from tests.loops.scripted import keys

SPEC = Spec.continuous(3, 2)
pytestmark = pytest.mark.usefixtures("strict")


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def first(module, seed, **config):
    """The first state of an agent."""
    agent = module.make(SPEC, module.Config(**config))
    return jax.jit(agent.init)(jax.random.key(seed))


def test_what_has_the_same_form_goes_on():
    fresh, learned = (first(iql, seed, hidden=(8,)) for seed in range(2))
    equal(finetuning.adopted(fresh, learned), learned)


def test_another_optimiser_keeps_the_parameters():
    fresh, learned = first(iql, 0, hidden=(8,)), first(iql, 1, hidden=(8,), decay_steps=5)
    found = finetuning.adopted(fresh, learned)
    equal(found.actor.params, learned.actor.params)
    assert jax.tree.structure(found) == jax.tree.structure(fresh)


def test_a_new_multiplier_is_fresh():
    fresh, learned = first(cql, 0, hidden=(8,), lagrange="official"), first(cql, 1, hidden=(8,))
    found = finetuning.adopted(fresh, learned)
    equal(found.multiplier, fresh.multiplier)
    equal(found.critic, learned.critic)


def test_other_networks_are_refused():
    fresh, learned = (first(iql, 0, hidden=(n,)) for n in (8, 9))
    with pytest.raises(UserError, match="actor has other sizes"):
        finetuning.adopted(fresh, learned)


@pytest.mark.parametrize("how", ["map", "vmap"])
def test_every_seed_begins_with_its_own_state(how):
    table = jax.vmap(partial(jax.random.fold_in, data=acting.INIT))(keys(3))
    states = iql.State(jnp.full(3, 7), *(jnp.array([10.0, 11, 12]) for _ in range(4)))
    agent = Agent(partial(finetuning.state_of, table, states), None, None)

    def begin(key):
        return loops.Run(agent.init(jax.random.fold_in(key, acting.INIT)), (), (), jnp.int32(0))

    loop = loops.seeds(loops.loop.compiled(begin, None), 3, how)
    run = loop.begin(keys(3))
    found = run.state.actor if how == "vmap" else [r.state.actor for r in run]
    np.testing.assert_array_equal(found, [10, 11, 12])
