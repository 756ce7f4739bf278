import numpy as np
import pytest

from jaxrl.data import d4rl
from jaxrl.errors import UserError


@pytest.mark.parametrize("name", ["hopper", "hopper-medium-replay-v2", "Hopper-v5", "hopper_x"])
def test_references_are_the_task_s(name):
    assert d4rl.reference(name) == (-20.272305, 3234.3)


def test_the_longest_task_wins():
    assert d4rl.reference("maze2d-umaze-dense-v1").random == 68.537689
    assert d4rl.reference("maze2d-umaze-v1").random == 23.85
    assert d4rl.reference("antmaze-large-play-v2") == (0, 1)
    assert d4rl.reference("ant-medium-v2").expert == 3879.7


def test_score_is_0_at_random_and_100_at_expert():
    low, high = d4rl.reference("walker2d")
    np.testing.assert_allclose(
        d4rl.normalized_score("walker2d-medium-v2", np.array([low, (low + high) / 2, high])),
        [0, 50, 100],
    )
    np.testing.assert_allclose(d4rl.normalized_score("halfcheetah", 5927.4105235), 50)


def test_unknown_tasks_name_the_near_ones():
    with pytest.raises(UserError, match="walker2d"):
        d4rl.reference("walker-v2")


@pytest.mark.parametrize("name", ["hopper", "Hopper-v5", "antmaze-umaze-v2", "maze2d-open-dense"])
def test_known_tasks(name):
    assert d4rl.known(name)


@pytest.mark.parametrize("name", ["", "Pendulum-v1", "hoppers", "my-hopper"])
def test_unknown_tasks(name):
    assert not d4rl.known(name)
