import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxrl.envs import detour, make
from tests.envs.common import check_semantics, rollout


def play(actions):
    """Position, reward and whether it ended, after every action of one episode from (-1, 0)."""
    position, found = jnp.array([-1.0, 0.0]), []
    for action in actions:
        position, obs, reward, terminal = detour.dynamics(
            position, jnp.array(action), jax.random.key(0)
        )
        found.append((*np.asarray(obs).tolist(), float(reward), bool(terminal)))
        if terminal:
            break
    return np.array(found)


def test_straight_ahead_hits_the_obstacle():
    found = play([(1.0, 0.0)] * 20)
    assert found[-1, 3] and found[:, 2].sum() == 0
    assert -detour.RADIUS < found[-1, 0] < -detour.RADIUS + detour.SPEED


def test_both_ways_lead_to_the_other_side():
    for side in (1.0, -1.0):
        found = play([(0.0, side)] * 6 + [(1.0, 0.0)] * 20)
        assert found[-1, 0] >= 1 and found[-1, 1] * side > detour.RADIUS
        np.testing.assert_array_equal(found[:, 2], found[:, 3])  # one reward, at the end
        assert found[-1, 2] == 1


def test_actions_and_positions_are_bounded():
    found = play([(-5.0, 9.0)])
    np.testing.assert_allclose(found[0, :2], [-1 - detour.SPEED, detour.SPEED], rtol=1e-6)
    wall = np.float32(detour.WALL)
    np.testing.assert_array_equal(play([(-1.0, 1.0)] * 20)[-1, :2], [-wall, wall])


def test_episodes_start_on_the_left_near_the_middle():
    _, obs = jax.vmap(make("jaxrl/detour-v0").reset)(jax.random.split(jax.random.key(0), 500))
    assert (obs[:, 0] == -1).all()
    assert 0.9 * detour.START < float(jnp.abs(obs[:, 1]).max()) <= detour.START


def test_semantics(strict):
    env = make("jaxrl/detour-v0")
    acted, step = rollout(env, steps=100)
    check_semantics(env.spec, acted, step)
    assert step.last.sum() > 2


def test_render_writes_a_playable_gif(tmp_path):
    env = make("jaxrl/detour-v0")
    start = env.reset(jax.random.key(0))[0]
    states = [start._replace(inner=start.inner + 0.1 * i) for i in range(5)]
    with Image.open(env.render(states, tmp_path / "episode")) as film:
        assert film.n_frames == 5
