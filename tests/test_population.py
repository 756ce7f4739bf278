import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import loops, population
from jaxrl.agents import sac
from jaxrl.envs import pendulum
from jaxrl.errors import UserError
from jaxrl.loops import off_policy
from jaxrl.policies import memoryless
from jaxrl.types import Policy
from tests.agents.catalog import CASES, FLAT, transitions
from tests.loops.scripted import keys

BASE = sac.Config(hidden=(16,), adam_eps=1e-3)
CONFIGS = [
    dataclasses.replace(BASE, gamma=gamma, temperature=temperature, learning_rate=rate)
    for gamma, temperature, rate in [(0.9, 1.0, 1e-3), (0.99, 0.2, 1e-4)]
]


def stacked(batch, n):
    return jax.tree.map(lambda x: jnp.stack([x] * n), batch)


def alone(make, config, key, batch, n=5):
    agent = make(FLAT, config)
    state, update = jax.jit(agent.init)(key), jax.jit(agent.update)
    for i in range(n):
        state, _ = update(state, batch, jax.random.key(i))
    return state


@pytest.mark.usefixtures("strict")
def test_every_member_is_the_agent_of_its_settings():
    batch = transitions(FLAT, jax.random.key(7))
    many = population.population(sac.make, FLAT, CONFIGS)
    state, update = jax.jit(many.init)(keys(2)), jax.jit(many.update)
    for i in range(5):
        key = jnp.stack([jax.random.key(i)] * 2)
        state, metrics = update(state, stacked(batch, 2), key)
    assert metrics["td_error"].shape == (2,) and int(state.step) == 5
    for i, config in enumerate(CONFIGS):
        member = jax.tree.map(lambda x, i=i: x[i] if x.ndim else x, state)
        one = alone(sac.make, config, jax.random.key(i), batch)
        chex.assert_trees_all_close(member, one, atol=1e-5)
    obs = jnp.zeros((2, 4, *FLAT.obs.shape))
    assert many.act(state, obs).shape == (2, 4, *FLAT.action.shape)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_number_of_every_agent_may_be_a_tracer(case):
    config = case.config
    names = [f.name for f in dataclasses.fields(config) if type(getattr(config, f.name)) is float]
    batch = jax.eval_shape(lambda: case.batch_of(0))

    def updated(values):
        agent = case.make(lambda config: dataclasses.replace(config, **values))
        state = agent.init(jax.random.key(0))
        return agent.update(state, jax.tree.map(jnp.zeros_like, batch), jax.random.key(1))

    values = {name: jnp.asarray(getattr(config, name)) for name in names}
    assert jax.eval_shape(updated, values)


@pytest.mark.parametrize(
    "change, name", [({"critics": 3}, "critics"), ({"backup_entropy": False}, "backup_entropy")]
)
def test_what_decides_the_program_must_agree(change, name):
    with pytest.raises(UserError, match=f"population: {name} differs"):
        population.varied([BASE, dataclasses.replace(BASE, **change)])


def test_an_integer_in_a_float_field_varies():
    members = [dataclasses.replace(BASE, gamma=gamma) for gamma in (1, 0.9)]
    gamma = population.varied(members)[1]["gamma"]
    np.testing.assert_array_equal(gamma, np.float32([1, 0.9]))
    members = [dataclasses.replace(BASE, gamma=gamma) for gamma in (0, 1)]
    assert population.varied(members)[1]["gamma"].dtype == jnp.float32
    assert population.population(sac.make, FLAT, members)


def test_no_members_are_refused():
    with pytest.raises(UserError, match="population: found no settings"):
        population.population(sac.make, FLAT, [])


def test_settings_that_agree_vary_in_nothing():
    assert population.varied([BASE, BASE]) == (BASE, {})


def test_a_setting_out_of_range_is_refused_before_anything_is_traced():
    with pytest.raises(UserError, match="gamma"):
        population.population(sac.make, FLAT, [BASE, dataclasses.replace(BASE, gamma=1.5)])


LOOP = off_policy.Config(envs=2, batch_size=8, capacity=64, warmup=8)


def loop_of(config):
    env = pendulum.make()
    return off_policy.make(sac.make(env.spec, config), env, LOOP, gamma=config.gamma)


def test_a_loop_of_members_plays_what_each_plays_alone():
    base, values = population.varied(CONFIGS)
    many = population.play(lambda v: loop_of(dataclasses.replace(base, **v)), values)
    run, metrics = many.advance(many.begin(keys(2)), keys(2), 12)
    for i, config in enumerate(CONFIGS):
        one = loop_of(config)
        alone, expected = one.advance(one.begin(jax.random.key(i)), jax.random.key(i), 12)
        np.testing.assert_allclose(metrics["td_error"][i], expected["td_error"], rtol=1e-4)
        np.testing.assert_allclose(run.replay.obs[i], alone.replay.obs, atol=1e-5)
    assert int(loops.step_of(run)) == 12


def test_a_member_acts_by_its_own_values():
    def scaled(values):
        return Policy(
            lambda n: (), lambda state, memory, obs: (memory, values["gain"] * obs + state)
        )

    policy = population.policy(scaled, {"gain": jnp.array([2.0, 3.0])})
    assert policy.start(4) == ()
    pair = {"gain": jnp.array(3.0)}, jnp.array(1.0)
    assert float(policy.step(pair, (), jnp.array(5.0))[1]) == 16.0


def test_grid_is_every_combination():
    points = population.grid({"a": (1.0, 2.0), "b": (), "c": (3.0, 4.0)})
    assert points == [
        {"a": 1.0, "c": 3.0}, {"a": 1.0, "c": 4.0}, {"a": 2.0, "c": 3.0}, {"a": 2.0, "c": 4.0}
    ]  # fmt: skip
    assert population.grid({}) == [{}]


@dataclasses.dataclass(frozen=True)
class Flags:
    steps: int = 10
    agent: sac.Config = BASE


def test_sweepable_settings_offer_the_numbers_of_the_agent():
    config = population.sweepable(Flags(steps=3))
    assert config.steps == 3 and isinstance(config, Flags)
    offered = {field.name for field in dataclasses.fields(config.sweep.agent)}
    assert {"gamma", "tau", "learning_rate"} <= offered
    assert not offered & {"critics", "hidden", "backup_entropy"}


def test_memoryless_is_a_policy_of_a_member():
    base, values = population.varied(CONFIGS)
    policy = population.policy(
        lambda v: memoryless(sac.make(FLAT, dataclasses.replace(base, **v))), values
    )
    state = jax.jit(sac.make(FLAT, base).init)(jax.random.key(0))
    obs = jnp.zeros((2, *FLAT.obs.shape))
    one = {name: x[1] for name, x in values.items()}
    _, action = policy.step((one, state), (), obs, jnp.zeros(2), jnp.zeros(2, bool))
    assert action.shape == (2, *FLAT.action.shape)
