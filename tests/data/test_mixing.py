import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.data import mixing, transforms
from jaxrl.data.dataset import sample
from jaxrl.data.episodes import from_episodes
from jaxrl.errors import UserError
from tests.data import synthetic

pytestmark = pytest.mark.usefixtures("strict")
BLOCKS = 2


def dataset():
    return from_episodes(synthetic.episodes(), BLOCKS)


def online(key, n):
    """Rows that are told by their reward of 100."""
    rows = sample(dataset(), key, n)
    return rows._replace(reward=jnp.full(n, 100.0), weight=None)


def drawn(share, batch_size=16, data=None):
    return mixing.two_sources(share, online, jax.random.key(0), batch_size, data or dataset())


@pytest.mark.parametrize("share, offline", [(0.0, 0), (0.25, 4), (0.3, 4), (0.5, 8), (1.0, 16)])
def test_every_block_has_its_share_of_offline_rows(share, offline):
    reward = np.asarray(drawn(share).reward).reshape(BLOCKS, -1)
    np.testing.assert_array_equal((reward != 100).sum(1), offline // BLOCKS)


def test_rows_of_either_source_stay_whole():
    batch, ours = drawn(0.5), dataset()
    rows = np.asarray(ours.steps.obs).reshape(-1, 3)
    for obs, action in zip(batch.obs, batch.action, strict=True):
        row = int(np.flatnonzero((rows == np.asarray(obs)).all(1))[0])
        np.testing.assert_array_equal(ours.steps.action.reshape(-1, 2)[row], action)


def test_what_one_source_lacks_is_neutral():
    data = transforms.with_return_to_go(dataset(), 0.9)
    batch = drawn(0.5, data=data)
    offline = np.asarray(batch.reward) != 100
    assert np.isfinite(batch.return_to_go[offline]).all()
    assert (np.asarray(batch.return_to_go)[~offline] == -np.inf).all()
    if data.weight is not None:
        assert (np.asarray(batch.weight)[~offline] == 1).all()
    assert drawn(0.5).return_to_go is None


def test_a_share_beyond_one_is_refused():
    with pytest.raises(UserError, match="offline_share: found 1.5"):
        drawn(1.5)
