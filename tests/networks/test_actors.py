import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import networks as nets
from jaxrl.types import Spec

pytestmark = pytest.mark.usefixtures("strict")
OBS = jax.random.normal(jax.random.key(3), (5, 3))
ENCODE = nets.encoder(Spec.continuous(3, 2))


def applied(actor, obs=OBS):
    params = actor.init(jax.random.key(0), OBS)
    return params, actor.apply(params, obs)


def test_squashed_actor_has_a_deviation_per_state():
    _, policy = applied(nets.TanhGaussianActor(ENCODE, nets.MLP((8, 4))))
    assert policy.mean.shape == policy.log_std.shape == (5, 2)
    assert np.unique(np.asarray(policy.log_std)).size == 10


@pytest.mark.parametrize("low, high", [(-20.0, 2.0), (0.0, 0.0), (-0.5, 0.25)])
def test_deviations_are_clipped(low, high):
    torso = nets.MLP((8, 4), kernel_init=jax.nn.initializers.normal(100.0))
    actor = nets.TanhGaussianActor(ENCODE, torso, log_std_min=low, log_std_max=high)
    _, policy = applied(actor)
    assert {float(policy.log_std.min()), float(policy.log_std.max())} == {low, high}


@pytest.mark.parametrize("tanh_mean", [False, True])
def test_gaussian_actor_has_one_deviation_for_all_states(tanh_mean):
    torso = nets.MLP((8, 2), kernel_init=jax.nn.initializers.normal(10.0))
    params, policy = applied(nets.GaussianActor(ENCODE, torso, tanh_mean=tanh_mean))
    assert params["params"]["log_std"].shape == (2,)
    np.testing.assert_array_equal(policy.log_std, np.zeros((5, 2)))
    assert bool((jnp.abs(policy.mean) <= 1).all()) == tanh_mean


@pytest.mark.parametrize(
    "bounds, low, high", [({}, -20.0, 2.0), ({"log_std_min": -5.0, "log_std_max": 0.5}, -5.0, 0.5)]
)
def test_the_deviation_for_all_states_is_clipped(bounds, low, high):
    actor = nets.GaussianActor(ENCODE, nets.MLP((8, 2)), **bounds)
    params = actor.init(jax.random.key(0), OBS)["params"] | {"log_std": jnp.array([-99.0, 99.0])}
    policy = actor.apply({"params": params}, OBS)
    np.testing.assert_array_equal(policy.log_std, np.tile([low, high], (5, 1)))


def test_categorical_actor_has_a_logit_per_choice():
    _, policy = applied(nets.CategoricalActor(ENCODE, nets.MLP((8, 4))))
    assert policy.logits.shape == (5, 4)
    assert policy.mode().shape == (5,)


def test_deterministic_actor_stays_in_its_box():
    torso = nets.MLP((8, 2), kernel_init=jax.nn.initializers.normal(10.0))
    _, policy = applied(nets.DeterministicActor(ENCODE, torso))
    assert (jnp.abs(policy.mode()) <= 1).all()


def test_any_number_of_batch_axes():
    actor = nets.TanhGaussianActor(ENCODE, nets.MLP((8, 4)))
    params, policy = applied(actor)
    many = actor.apply(params, jnp.stack([OBS, OBS]))
    np.testing.assert_allclose(many.mean[1], policy.mean, rtol=1e-6)
    one = actor.apply(params, OBS[0])
    np.testing.assert_allclose(one.mean, policy.mean[0], rtol=1e-5, atol=1e-6)
