import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl import loops, parallel
from jaxrl.data import segments
from jaxrl.data.dataset import with_probabilities
from jaxrl.data.episodes import Episode, from_episodes
from jaxrl.errors import UserError
from jaxrl.loops import offline
from jaxrl.types import Agent
from tests.data import synthetic


def numbered(lengths):
    """Observation 10 e + t in episode e, action the same, rewards t + 1."""
    return [_numbered(e, n) for e, n in enumerate(lengths)]


def _numbered(e, n):
    number = 10.0 * e + np.arange(n + 1, dtype=np.float32)[:, None]
    return Episode(number, number[:-1] / 100, np.arange(1.0, n + 1), np.ones(n))


def draw(windows, n, seed=0):
    batch = jax.jit(segments.draw, static_argnums=2)(windows, jax.random.key(seed), n)
    return jax.tree.map(np.asarray, batch)


def distinct(batch):
    """Every different window as its first number, observations and mask."""
    rows = np.concatenate([batch.obs[..., 0], batch.mask], axis=1)
    return sorted(map(tuple, np.unique(rows, axis=0).tolist()))


def test_contexts_start_at_every_transition_and_are_padded_on_the_left(strict):
    batch = draw(segments.contexts(from_episodes(numbered([3, 2])), 3), 256)
    found = {}
    for obs, mask in zip(batch.obs[..., 0], batch.mask, strict=True):
        found[tuple(obs[mask].tolist())] = mask.tolist()
    assert found == {
        (0.0, 1.0, 2.0): [True, True, True],
        (1.0, 2.0): [False, True, True],
        (2.0,): [False, False, True],
        (10.0, 11.0): [False, True, True],
        (11.0,): [False, False, True],
    }


def test_return_to_go_runs_to_the_end_of_the_episode():
    """Rewards 1, 2, 3: 6, 5, 3 whatever the window, not its own sum (1, 3 or 2, 5)."""
    for length, expected in {1: {(6,), (5,), (3,)}, 2: {(6, 5), (5, 3), (3,)}}.items():
        batch = draw(segments.contexts(from_episodes(numbered([3])), length), 128)
        rows = zip(batch.return_to_go, batch.mask, strict=True)
        assert {tuple(r[m].astype(int).tolist()) for r, m in rows} == expected


def test_fields_belong_together(strict):
    data = synthetic.episodes()
    batch = draw(segments.contexts(from_episodes(data, 2), 4), 256)
    known = {tuple(e.obs[t]): (e, t) for e in data for t in range(len(e.action))}
    for i, k in np.argwhere(batch.mask):
        episode, t = known[tuple(batch.obs[i, k])]
        np.testing.assert_array_equal(batch.action[i, k], episode.action[t])
        assert batch.reward[i, k] == episode.reward[t]
        assert batch.discount[i, k] == episode.discount[t]
        assert batch.timestep[i, k] == t
        np.testing.assert_allclose(batch.return_to_go[i, k], episode.reward[t:].sum(), atol=1e-5)


def test_episodes_are_drawn_in_proportion_to_their_length():
    rewards = np.ones(90), np.full(10, 2.0)
    data = [Episode(np.zeros((len(r) + 1, 1)), np.zeros((len(r), 1)), r, r) for r in rewards]
    batch = draw(segments.contexts(from_episodes(data), 5), 40_000)
    first = batch.timestep[np.arange(40_000), batch.mask.argmax(1)]
    short = batch.reward[:, -1] == 2
    np.testing.assert_allclose(short.mean(), 0.1, atol=0.01)
    counts = np.bincount(first[~short], minlength=90)  # starts are uniform, the last step included
    assert len(counts) == 90
    assert abs(counts - 400).max() < 5 * np.sqrt(400)


def test_probabilities_of_transitions_are_those_of_the_starts():
    dataset = with_probabilities(from_episodes(numbered([3])), np.array([0, 1, 0]))
    batch = draw(segments.contexts(dataset, 2), 64)
    assert distinct(batch) == [(1.0, 2.0, 1.0, 1.0)]


def test_unequal_blocks_carry_weights():
    batch = draw(segments.contexts(from_episodes(numbered([6, 2]), 2), 2), 64)
    np.testing.assert_allclose(batch.weight[batch.obs[:, -1, 0] < 10], 6 / 4)
    np.testing.assert_allclose(batch.weight[batch.obs[:, -1, 0] >= 10], 2 / 4)


def test_chunks_repeat_the_ends_of_an_episode_and_mix_none(strict):
    windows = segments.chunks(from_episodes(numbered([3, 4])), 3, before=1, after=1)
    assert windows.size == 3 + 4  # L - length + before + after + 1 each
    batch = draw(windows, 256)
    expected = [
        (0, 0, 1, 0, 1, 1),
        (0, 1, 2, 1, 1, 1),
        (1, 2, 2, 1, 1, 0),
        (10, 10, 11, 0, 1, 1),
        (10, 11, 12, 1, 1, 1),
        (11, 12, 13, 1, 1, 1),
        (12, 13, 13, 1, 1, 0),
    ]
    assert distinct(batch) == expected
    np.testing.assert_allclose(batch.action[..., 0], batch.obs[..., 0] / 100, rtol=1e-6)


def test_chunks_without_padding_stay_inside():
    batch = draw(segments.chunks(from_episodes(numbered([3, 4])), 3), 128)
    assert batch.mask.all()
    assert [row[:3] for row in distinct(batch)] == [(0, 1, 2), (10, 11, 12), (11, 12, 13)]


def test_chunks_may_be_longer_than_an_episode_by_their_padding():
    batch = draw(segments.chunks(from_episodes(numbered([2])), 4, before=1, after=1), 16)
    assert distinct(batch) == [(0, 0, 1, 1, 0, 1, 1, 0)]


def test_episodes_that_are_too_short_give_no_chunks():
    with pytest.warns(UserWarning, match="1 episodes are shorter"):
        windows = segments.chunks(from_episodes(numbered([2, 4]), 2), 3)
    batch = draw(windows, 64)
    assert [row[:3] for row in distinct(batch._replace(obs=batch.obs[32:], mask=batch.mask[32:]))]
    np.testing.assert_array_equal(np.unique(batch.weight), [0, 2])  # of a block without windows
    assert batch.obs[batch.weight > 0].min() >= 10


def test_hindsight_goals_are_what_the_episode_came_to_later(strict):
    """Every later observation is one, the final one included, and no earlier or foreign one."""
    windows = segments.chunks(from_episodes(numbered([4, 3])), 2, 0, 0)
    batch = jax.jit(segments.draw_hindsight, static_argnums=2)(windows, jax.random.key(0), 4_096)
    found = {}
    for end, goal in zip(batch.obs[:, -1, 0].tolist(), batch.goal[:, 0].tolist(), strict=True):
        found.setdefault(end, []).append(goal)
    later = {1: [2, 3, 4], 2: [3, 4], 3: [4], 11: [12, 13], 12: [13]}
    assert {end: sorted(set(goals)) for end, goals in found.items()} == later
    np.testing.assert_allclose(np.mean(found[1]), 3, atol=0.1)  # each as likely
    plain = draw(windows, 4_096)
    np.testing.assert_array_equal(plain.obs, batch.obs)
    assert plain.goal is None


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda d: segments.contexts(d, 5), "context: found 5, expected at most 4"),
        (lambda d: segments.contexts(d, 0), "length: found 0"),
        (lambda d: segments.chunks(d, 6, 0, 1), "length: found 6, expected at most 5"),
        (lambda d: segments.chunks(d, 3, 2, 1), r"padding: found 2 \+ 1, expected less than"),
        (lambda d: segments.chunks(d, 3, -1), "before: found -1"),
        (lambda d: segments.chunks(with_probabilities(d, np.ones(7)), 2), "probabilities"),
    ],
)
def test_windows_that_do_not_fit_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make(from_episodes(numbered([3, 4])))


def test_data_without_actions_or_rewards_is_refused():
    data = numbered([3])
    empty = from_episodes([e._replace(action=np.zeros((3, 0))) for e in data])
    for make in (segments.contexts, segments.chunks):
        with pytest.raises(UserError, match="found no actions"):
            make(empty, 2)
    free = from_episodes([e._replace(reward=np.zeros(3)) for e in data])
    with pytest.raises(UserError, match="every reward is 0"):
        segments.contexts(free, 2)
    segments.chunks(free, 2)  # imitation needs none


def test_blocks_draw_alike_on_every_mesh_and_nothing_moves():
    windows = segments.contexts(from_episodes(synthetic.episodes() * 4, 8), 4)
    alone = draw(windows, 64)
    spread = jax.device_put(windows, NamedSharding(parallel.make_mesh(), P("data")))
    jax.tree.map(np.testing.assert_array_equal, alone, draw(spread, 64))
    out = NamedSharding(parallel.make_mesh(), P("data"))
    compiled = jax.jit(segments.draw, static_argnums=2, out_shardings=out)
    text = compiled.lower(spread, jax.random.key(0), 64).compile().as_text()
    assert "all-gather" not in text
    assert "all-reduce" not in text


def test_the_offline_loop_takes_windows():
    def update(state, batch, key):
        del key
        return state._replace(step=state.step + 1), {"valid": batch.mask.mean()}

    windows = segments.contexts(from_episodes(synthetic.episodes() * 4, 8), 4)
    agent = Agent(lambda key: loops.Run((), (), (), jnp.int32(0)), update, None)
    loop = offline.make(agent, windows, offline.Config(batch_size=16), segments.draw)
    key = jax.random.key(0)
    _, metrics = loop.advance(loop.begin(jax.random.clone(key)), key, 3)
    assert 0.5 < metrics["valid"] < 1
