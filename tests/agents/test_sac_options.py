"""SAC's settings: normalised and partial observations, precision, sweeps, and refusals."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import networks as nets
from jaxrl.agents import sac
from jaxrl.errors import UserError
from jaxrl.types import Spec
from tests.agents.catalog import FLAT, PRIVILEGED, transitions
from tests.agents.sac_updates import CONFIG, batch_of, begin, plain, updated

pytestmark = pytest.mark.usefixtures("strict")


def test_the_normalizer_moves_once_after_the_update():
    config = dataclasses.replace(CONFIG, normalize_obs=True)
    networks, old = begin(config)
    first, _ = plain()[2](plain()[1], batch_of(0), jax.random.key(2))
    new, _ = updated(networks, config, old, batch_of(0))
    chex.assert_trees_all_close(new.critic, first.critic)  # the first batch meets mean 0, std 1
    np.testing.assert_allclose(new.normalizer.mean, batch_of(0).obs.mean(0), rtol=1e-5)
    assert float(new.normalizer.count) == 16
    both = jnp.concatenate([batch_of(0).obs, batch_of(1).obs])
    newer, _ = updated(networks, config, new, batch_of(1))  # raw numbers are counted
    np.testing.assert_allclose(newer.normalizer.mean, both.mean(0), rtol=1e-4, atol=1e-6)
    shifted = new.normalizer._replace(mean=new.normalizer.mean + 1)
    obs = batch_of(1).obs
    a = sac.act(networks, config, new, obs)
    b = sac.act(networks, config, new._replace(normalizer=shifted), obs + 1)
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_actor_reads_only_its_keys():
    config = dataclasses.replace(CONFIG, actor_keys=("seen",))
    networks, state = begin(config, PRIVILEGED)
    batch = transitions(PRIVILEGED, jax.random.key(0))
    other = batch.obs | {"hidden": batch.obs["hidden"] + 1}
    chex.assert_trees_all_equal(
        sac.act(networks, config, state, batch.obs), sac.act(networks, config, state, other)
    )
    q = [networks.critic.apply(state.target, obs, batch.action) for obs in (batch.obs, other)]
    assert jnp.abs(q[0] - q[1]).max() > 1e-3


def test_bfloat16_computes_between_float32_parameters_and_values():
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    (networks, old), batch = begin(config), batch_of(0)
    q, exact = (n.critic.apply(old.target, batch.obs, batch.action) for n in (networks, plain()[0]))
    assert q.dtype == jnp.float32
    assert 1e-5 < jnp.abs(q - exact).max() < 0.05
    new, metrics = updated(networks, config, old, batch)
    floats = [x for x in jax.tree.leaves((new, metrics)) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "name, value",
    [
        ("gamma", 1.5),
        ("gamma", -0.1),
        ("tau", 2.0),
        ("temperature", -1.0),
        ("temperature", 0.0),
        ("critics", 0),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(UserError, match=f"{name}: found {value}"):
        sac.make(FLAT, dataclasses.replace(CONFIG, **{name: value}))


def test_a_temperature_that_is_not_learned_may_be_zero():
    config = dataclasses.replace(CONFIG, temperature=0.0, learn_temperature=False)
    agent = sac.make(FLAT, config)
    after = agent.update(agent.init(jax.random.key(0)), batch_of(0), jax.random.key(1))[0]
    chex.assert_tree_all_finite((after.actor, after.critic))


def test_discrete_actions_and_unknown_keys_are_refused():
    with pytest.raises(UserError, match="continuous actions.*4 choices"):
        sac.make(Spec.categorical(3, 4))
    with pytest.raises(UserError, match=r"\['sen'\].*\['hidden', 'seen'\]"):
        sac.make(PRIVILEGED, sac.Config(actor_keys=("sen",)))


def test_float_settings_may_be_swept_in_one_program():
    def after_one(gamma, rate, temperature):
        config = dataclasses.replace(
            CONFIG, gamma=gamma, learning_rate=rate, temperature=temperature
        )
        agent = sac.make(FLAT, config)
        state = agent.init(jax.random.key(1))
        return agent.update(state, batch_of(0), jax.random.key(2))[0].critic.params

    settings = jnp.array([[0.9, 1e-3, 1.0], [0.5, 1e-2, 0.1]])
    many = jax.jit(jax.vmap(after_one))(*settings.T)
    for i, row in enumerate(settings):
        alone = jax.jit(after_one)(*row)
        of_row = jax.tree.map(lambda x: x[i], many)  # noqa: B023
        chex.assert_trees_all_close(of_row, alone, atol=1e-5)


def test_own_networks_replace_ours():
    actor = nets.TanhGaussianActor(nets.encoder(FLAT), nets.MLP((7, 6)))
    agent = sac.make(FLAT, CONFIG, sac.build(FLAT, CONFIG)._replace(actor=actor))
    shapes = jax.eval_shape(agent.init, jax.random.key(0)).actor.params
    assert shapes["params"]["torso"]["Dense_0"]["kernel"].shape == (5, 7)
