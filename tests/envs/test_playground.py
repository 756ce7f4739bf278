"""The playground adapter, most of it on a stand-in that compiles at once."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from PIL import Image

from jaxrl.envs import make, playground
from jaxrl.errors import UserError
from tests.envs.common import check_semantics, rollout


@struct.dataclass
class State:
    data: dict
    obs: dict
    reward: jax.Array
    done: jax.Array
    info: dict


class Walker:
    """Counts, with playground's habits: weak types, changes in place, dictionaries, own keys."""

    action_size = 2

    def reset(self, rng):
        rng, key = jax.random.split(rng)
        start = jax.random.uniform(key)
        info = {"rng": rng, "steps": 0}
        return State({"time": 0.0, "x": start}, self._obs(start), 0.0, jnp.zeros(()), info)

    def step(self, state, action):
        state.info["steps"] += 1
        state.info["rng"], key = jax.random.split(state.info["rng"])
        x = state.data["x"] + 1 + 1e-3 * jax.random.uniform(key)
        state.data.update(x=x, time=state.data["time"] + jnp.float32(0.1))
        done = (x > 5).astype(float) * (action[0] > 0)
        return state.replace(obs=self._obs(x), reward=x, done=done)

    def _obs(self, x):
        return {"state": x[None], "privileged_state": jnp.stack([x, x])}


def fake_library(env, tmp_path, **config):
    defaults = {"episode_length": 4, "action_repeat": 1} | config
    return SimpleNamespace(
        dm_control_suite=SimpleNamespace(ALL_ENVS=("Walker",)),
        registry=SimpleNamespace(
            ALL_ENVS=("Walker", "Robot"),
            mjx_env=SimpleNamespace(MENAGERIE_PATH=Path(tmp_path / "menagerie")),
            load=lambda name, config_overrides: env,
            get_default_config=lambda name: SimpleNamespace(**defaults),
        ),
    )


@pytest.fixture
def walker(monkeypatch, tmp_path):
    def build(options="", **config):
        library = fake_library(Walker(), tmp_path, **config)
        monkeypatch.setattr(playground, "require", lambda *args: library)
        return make(f"playground/Walker{options}")

    return build


def test_time_limit_and_dictionaries(walker, strict):
    env = walker()
    acted, step = rollout(env, steps=9, action=-jnp.ones((4, 2)))
    check_semantics(env.spec, acted, step)
    assert env.spec.obs["privileged_state"].shape == (2,)
    np.testing.assert_array_equal(np.flatnonzero(step.last[:, 0]), [3, 7])
    assert (step.discount == 1).all()
    assert (step.next_obs["state"][3] > 4).all() and (step.obs["state"][3] < 1).all()


def test_termination(walker):
    _, step = rollout(walker(episode_length=100), steps=9, action=jnp.ones((4, 2)))
    assert step.last.any() and (step.next_obs["state"][step.last] > 5).all()
    np.testing.assert_array_equal(step.discount, 1 - step.last)


def test_episodes_from_the_same_start_draw_their_own_noise(walker, monkeypatch):
    monkeypatch.setattr(playground, "pooled", lambda reset: lambda key: reset(jax.random.key(7)))
    acted, step = rollout(walker(), steps=9, n=2, action=-jnp.ones((2, 2)))
    assert len(np.unique(acted["state"][[4, 8]])) == 1  # one start
    assert len(np.unique(acted["state"][[5]])) == 2  # but two walks


def test_repeated_actions(walker):
    env = walker(episode_length=5, action_repeat=2)
    acted, step = rollout(env, steps=7, action=-jnp.ones((4, 2)))
    np.testing.assert_array_equal(np.flatnonzero(step.last[:, 0]), [2, 5])
    rise = step.next_obs["state"] - acted["state"]
    np.testing.assert_allclose(rise, 2, atol=3e-3)
    np.testing.assert_allclose(step.reward, 2 * acted["state"][..., 0] + 3, atol=6e-3)


def test_a_name_may_ask_for_repeated_actions(walker):
    _, asked = rollout(walker("?action_repeat=2", episode_length=5), steps=7)
    _, usual = rollout(walker(episode_length=5, action_repeat=2), steps=7)
    jax.tree.map(np.testing.assert_array_equal, asked, usual)


def test_repeated_actions_earn_nothing_after_the_end(walker):
    env = walker("?action_repeat=4", episode_length=100)
    acted, step = rollout(env, steps=2, action=jnp.ones((4, 2)))
    seen = acted["state"][..., 0]  # from 0 to 1, then from 4 to 5: the next step of the task ends
    np.testing.assert_array_equal(step.last, [[False] * 4, [True] * 4])
    np.testing.assert_allclose(step.reward[0], 4 * seen[0] + 10, atol=1e-2)
    np.testing.assert_allclose(step.reward[1], seen[1] + 1, atol=1e-2)


@pytest.mark.parametrize("times", ["0", "-1", "2.5", "two"])
def test_what_is_no_number_of_repeats(times, walker):
    with pytest.raises(UserError, match=f"action_repeat=: found '{times}', expected 1 or more"):
        walker(f"?action_repeat={times}")


def test_robots_need_a_download_first(walker):
    walker()
    with pytest.raises(UserError, match="Robot.*mujoco_menagerie.*ensure_menagerie_exists"):
        make("playground/Robot")


def test_an_environment_that_does_not_load(walker, monkeypatch):
    walker()
    library = playground.require()

    def load(name, config_overrides):
        raise AttributeError("no attribute 'find_body'")

    monkeypatch.setattr(library.registry, "load", load)
    with pytest.raises(UserError, match="does not load here.*find_body"):
        make("playground/Walker")


def test_video_needs_no_gl_but_may_use_it(monkeypatch, tmp_path):
    env = make("playground/CartpoleBalance")
    assert env.spec.obs.shape == (5,) and env.spec.action.shape == (1,)
    data = SimpleNamespace(qpos=np.array([0.1, 0.2]))
    state = SimpleNamespace(inner=SimpleNamespace(data=data))
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    path = env.render([state, state], tmp_path / "episode")
    with Image.open(path) as film:
        assert film.format == "GIF"
    monkeypatch.setenv("MUJOCO_GL", "broken")
    with pytest.raises(UserError, match="MUJOCO_GL=broken"):
        env.render([state], tmp_path / "episode")


def test_unknown_names_list_near_ones():
    with pytest.raises(UserError, match="CheetahRun"):
        make("playground/CheetaRun")


@pytest.mark.slow
def test_a_real_task(strict):
    env = make("playground/CartpoleBalance")
    acted, step = rollout(env, steps=1001, n=2)
    check_semantics(env.spec, acted, step)
    np.testing.assert_array_equal(np.flatnonzero(step.last[:, 0]), [999])
    assert (step.discount == 1).all() and (step.reward >= 0).all()
