import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import provenance, scaling
from jaxrl.agents import td3_bc
from jaxrl.data import segments, transforms
from jaxrl.data.dataset import sample
from jaxrl.data.episodes import from_episodes
from tests.data import synthetic

pytestmark = pytest.mark.usefixtures("strict")
AFFINE = transforms.Affine(4.0, -2.0)


@pytest.fixture
def dataset():
    return from_episodes(synthetic.episodes(), 2)


@pytest.fixture
def around(dataset):
    return scaling.Scaling(transforms.obs_statistics(dataset), AFFINE)


def test_learning_behind_a_scaling_is_learning_from_scaled_data(dataset, around):
    agent = td3_bc.make(dataset.spec, td3_bc.Config(hidden=(8,)))
    state = jax.jit(agent.init)(jax.random.key(0))
    key = jax.random.key(1)
    changed = transforms.affine_reward(transforms.normalize_obs(dataset), *AFFINE)
    wrapped = scaling.scaled(agent, around)
    batches = [sample(data, jax.random.key(2), 16) for data in (dataset, changed)]
    found, _ = jax.jit(wrapped.update)(state, batches[0], jax.random.clone(key))
    expected, _ = jax.jit(agent.update)(state, batches[1], jax.random.clone(key))
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(close, found, expected)
    close(wrapped.act(state, batches[0].obs), agent.act(state, batches[1].obs))


def test_nothing_asked_changes_nothing(dataset):
    batch = sample(dataset, jax.random.key(0), 16)
    jax.tree.map(
        np.testing.assert_array_equal, batch, scaling.scale_batch(scaling.Scaling(), batch)
    )


def test_config_json_holds_it_to_the_bit(dataset, around):
    text = json.dumps(provenance.plain(around))
    found = scaling.decode(json.loads(text), dataset.spec)
    jax.tree.map(np.testing.assert_array_equal, around, found)
    assert found.obs.mean.dtype == jnp.float32
    bare = json.loads(json.dumps(provenance.plain(scaling.Scaling())))
    assert scaling.decode(bare, dataset.spec) == scaling.Scaling()


def test_windows_have_their_observations_scaled_alone(dataset, around):
    batch = segments.draw(segments.contexts(dataset, 4), jax.random.key(0), 16)
    changed = segments.contexts(transforms.normalize_obs(dataset), 4)
    expected = segments.draw(changed, jax.random.key(0), 16)._replace(obs=None)
    found = scaling.scale_batch(around, batch)
    np.testing.assert_allclose(found.obs, around.obs.normalize(batch.obs), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, found._replace(obs=None), expected)
    np.testing.assert_array_equal(scaling.scale_obs(around, batch).obs, found.obs)
