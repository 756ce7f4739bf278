from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import networks as nets
from jaxrl.types import Spec

pytestmark = pytest.mark.usefixtures("strict")
SPEC = Spec.continuous(3, 2)
OBS, ACTION = jnp.ones((5, 3)), jnp.ones((5, 2))


def critic(outputs=1, size=2):
    return nets.Critic(nets.encoder(SPEC), lambda: nets.MLP((8, outputs)), size)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_members_of_an_ensemble_start_apart(size):
    ensemble = critic(size=size)
    q = ensemble.apply(ensemble.init(jax.random.key(0), OBS, ACTION), OBS, ACTION)
    assert q.shape == (size, 5)
    assert np.unique(np.asarray(q[:, 0])).size == size


def test_members_share_no_parameters():
    ensemble = critic()
    params = ensemble.init(jax.random.key(0), OBS, ACTION)

    def first(params):
        return ensemble.apply(params, OBS, ACTION)[0].sum()

    grads = jax.grad(first)(params)["params"]
    touched = [any(x.any() for x in jax.tree.leaves(member)) for member in grads.values()]
    assert touched == [True, False]


def test_discrete_critics_have_a_value_per_action():
    ensemble = critic(outputs=4)
    params = ensemble.init(jax.random.key(0), OBS)
    assert ensemble.apply(params, OBS).shape == (2, 5, 4)
    assert ensemble.apply(params, OBS[0]).shape == (2, 4)


def test_critics_depend_on_the_action():
    ensemble = critic()
    params = ensemble.init(jax.random.key(0), OBS, ACTION)
    assert (ensemble.apply(params, OBS, ACTION) != ensemble.apply(params, OBS, -ACTION)).all()


def test_value_has_one_number_per_state():
    value = nets.Value(nets.encoder(SPEC), nets.MLP((8, 1)))
    params = value.init(jax.random.key(0), OBS)
    assert value.apply(params, OBS).shape == (5,)
    assert value.apply(params, OBS[None]).shape == (1, 5)


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_gaussian_critics_have_a_mean_and_a_positive_deviation(dtype):
    torso = partial(nets.MLP, (8, 2), dtype=dtype)
    ensemble = nets.GaussianCritic(nets.Critic(nets.encoder(SPEC), torso, 2))
    params = ensemble.init(jax.random.key(0), OBS, ACTION)
    raw = nets.Critic(nets.encoder(SPEC), torso, 2).apply(
        {"params": params["params"]["critic"]}, OBS, ACTION
    )
    mean, std = ensemble.apply(params, OBS, ACTION)
    assert mean.shape == std.shape == (2, 5)
    assert mean.dtype == std.dtype == jnp.float32
    np.testing.assert_array_equal(mean, raw[..., 0].astype(jnp.float32))
    np.testing.assert_allclose(std, np.log1p(np.exp(raw[..., 1].astype(jnp.float32))), rtol=1e-5)
