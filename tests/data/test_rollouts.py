import jax
import numpy as np

from jaxrl.data import replay, rollouts
from jaxrl.data.episodes import from_episodes
from jaxrl.types import Spec, Transition


def counted(last, n=1, jump=()):
    """Rows whose observation counts steps within an episode; `jump` restarts without an end."""
    obs, count = [], 0
    for i, end in enumerate(last):
        count = 0 if i in jump else count
        obs.append(count)
        count = 0 if end else count + 1
    obs = np.repeat(np.array(obs, np.float32)[:, None, None], n, 1)
    last = np.repeat(np.array(last, bool)[:, None], n, 1)
    action, reward = obs / 10, obs[..., 0] + 1
    return Transition(obs, action, reward, 1 - last.astype(np.float32), obs + 1, last)


def lengths(rows):
    return [len(episode.action) for episode in rollouts.episodes(rows)]


def test_episodes_end_where_the_environments_say_and_where_the_rows_do():
    rows = counted([0, 0, 1, 0, 1, 0, 0], n=2)
    assert lengths(rows) == [3, 2, 2] * 2
    first, *_, cut = rollouts.episodes(rows)
    assert first.obs.ravel().tolist() == [0, 1, 2, 3]  # the true successor at the end
    assert first.reward.tolist() == [1, 2, 3]
    assert first.discount.tolist() == [1, 1, 0] and cut.discount.tolist() == [1, 1]


def test_a_jump_in_observations_cuts_as_a_time_limit_does():
    rows = counted([0, 0, 0, 0, 1], jump=(2,))
    assert lengths(rows) == [2, 3]
    assert next(rollouts.episodes(rows)).discount.tolist() == [1, 1]


def test_a_ring_is_read_from_its_oldest_row_on():
    spec = Spec.continuous(1, 1)
    rows = counted([0] * 9, n=4)
    blocks = jax.tree.map(lambda x: x.reshape(9, 2, 2, *x.shape[2:]), rows)
    ring = replay.empty(spec, 2, 5, 2)
    for i in range(9):
        ring = replay.add(ring, jax.tree.map(lambda x: x[i], blocks), i)  # noqa: B023
    held = rollouts.in_order(ring, 9)
    assert held.obs.shape == (5, 4, 1)
    np.testing.assert_array_equal(held.obs[:, 3, 0], [4, 5, 6, 7, 8])
    assert rollouts.in_order(ring, 3).reward.shape == (3, 4)
    assert rollouts.newest(held, 8).obs[:, 0, 0].tolist() == [7, 8]


def test_what_is_cut_apart_loads_as_a_dataset():
    rows = counted([0, 0, 1, 0, 1, 0, 0], n=2)
    assert from_episodes(list(rollouts.episodes(rows)), 2).size == 14
