import numpy as np
import pytest

from jaxrl.data.episodes import Episode, from_episodes, iterate, layout
from jaxrl.errors import UserError
from tests.data import synthetic


def test_layout_puts_the_longest_first_where_there_is_most_room():
    # Rows are 8, 6, 10, 5, 7, 9. By length: 10 -> a, 9 -> b, 8 -> b (9 < 10), 7 -> a (10 < 17),
    # 6 -> a or b, both 17: a, 5 -> b. So a = {1, 2, 4}, 23 rows, and b = {0, 3, 5}, 22 rows.
    place = layout(np.array(synthetic.LENGTHS), 2)
    assert place.rows == 23
    np.testing.assert_array_equal(place.final, [23 + 7, 5, 15, 23 + 12, 22, 23 + 21])
    np.testing.assert_array_equal(place.position[:9], [23, 24, 25, 26, 27, 28, 29, 30, 0])


def test_layout_of_one_block_keeps_the_order():
    place = layout(np.array([2, 5, 1]), 1)
    np.testing.assert_array_equal(place.position, np.arange(11))


def test_more_blocks_than_episodes_are_refused():
    with pytest.raises(UserError, match="blocks: found 7, expected at most 6"):
        from_episodes(synthetic.episodes(), 7)
    with pytest.raises(UserError, match="found none"):
        from_episodes([])


def test_padding_is_marked_last_and_never_valid():
    dataset = from_episodes(synthetic.episodes(), 2)
    last = np.asarray(dataset.steps.last)
    assert last.shape == (2, 23)
    assert last[1, 22]  # the padding of the shorter block
    np.testing.assert_array_equal(dataset.count, (~last).sum(1))
    for block in range(2):
        rows = np.asarray(dataset.valid)[block, : dataset.count[block]]
        np.testing.assert_array_equal(rows, np.flatnonzero(~last[block]))


def test_iterate_inverts_from_episodes():
    data = synthetic.episodes()
    again = list(iterate(from_episodes(data)))
    for a, b in zip(data, again, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_float64_is_rounded_and_bytes_are_kept():
    obs = {"pixels": np.zeros((3, 4, 4), np.uint8), "speed": np.zeros((3, 1))}
    data = [Episode(obs, np.zeros((2, 1)), np.zeros(2), np.ones(2))]
    steps = from_episodes(data).steps
    assert steps.obs["pixels"].dtype == np.uint8
    assert steps.obs["speed"].dtype == np.float32
    assert steps.action.dtype == np.float32
