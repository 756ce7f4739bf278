"""Adapter for MuJoCo Playground: the DeepMind control suite and robots in MJX."""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.envs import sticks
from jaxrl.envs.base import Dynamics, Env, auto_reset
from jaxrl.envs.foreign import functional, pooled, shapes
from jaxrl.errors import UserError, require, unknown_name
from jaxrl.types import Array, Key, PyTree, Spec


def make(name: str, action_repeat: str | None = None) -> Env:
    """The environment `name` of playground, with MJX's own solver (`impl="jax"`).

    Each action is held for `action_repeat` steps of the task, or as many as its configuration
    says, and counts as one step. Episodes end where the task does, or, with discount 1, after the
    configuration's `episode_length`, which counts the task's steps. Every episode after an
    environment's first starts from a pool of 256 states (`foreign.pooled`), with a fresh key for
    the noise and commands within it. Observations may be dictionaries: an actor reads `state`, a
    critic may read `privileged_state`.
    """
    library = require("mujoco_playground", "playground", f"env playground/{name}")
    if name not in library.registry.ALL_ENVS:
        raise unknown_name("env playground/", name, library.registry.ALL_ENVS)
    env, config = _load(library, name)
    times = _times(name, action_repeat, config.action_repeat)
    reset, dynamics = functional(env)
    action = jax.ShapeDtypeStruct((env.action_size,), jnp.result_type(float))
    spec = Spec(shapes(reset), action)
    draw = pooled(reset)

    def restart(key: Key) -> tuple[PyTree, PyTree]:
        key_draw, key_episode = jax.random.split(key)
        state, obs = draw(key_draw)
        if "rng" not in state.info:
            return state, obs
        return state.replace(info=state.info | {"rng": jax.random.key_data(key_episode)}), obs

    def render(states: list, path: str | Path) -> Path:
        return _save(env, states, path)

    time_limit = -(-config.episode_length // times)
    return auto_reset(spec, reset, repeated(dynamics, times), time_limit, render, restart)


def _load(library: ModuleType, name: str) -> tuple[Any, Any]:
    menagerie = library.registry.mjx_env.MENAGERIE_PATH
    if name not in library.dm_control_suite.ALL_ENVS and not menagerie.exists():
        raise UserError(
            f"env playground/{name}: needs the robots of mujoco_menagerie, expected in {menagerie};"
            " fetch them with: python -c 'from mujoco_playground._src import mjx_env;"
            " mjx_env.ensure_menagerie_exists()'"
        )
    try:
        env = library.registry.load(name, config_overrides={"impl": "jax"})
    except AttributeError as error:  # ReacherEasy and ReacherHard need another MuJoCo
        raise UserError(f"env playground/{name}: does not load here: {error}") from error
    return env, library.registry.get_default_config(name)


def _times(name: str, asked: str | None, usual: int) -> int:
    """How often to repeat an action."""
    if asked is None:
        return usual
    if not asked.isdecimal() or int(asked) < 1:
        raise UserError(
            f"env playground/{name}?action_repeat=: found {asked!r}, expected 1 or more"
        )
    return int(asked)


def repeated(dynamics: Dynamics, times: int) -> Dynamics:
    """`dynamics` with each action held for `times` steps, rewards summed up to a terminal one."""
    if times == 1:
        return dynamics

    def repeat(state: PyTree, action: Array, key: Key) -> tuple[PyTree, PyTree, Array, Array]:
        def once(carry: tuple, key: Key) -> tuple[tuple, tuple[PyTree, Array]]:
            state, ended = carry
            state, obs, reward, terminal = dynamics(state, action, key)
            return (state, ended | terminal), (obs, jnp.where(ended, 0, reward))

        start, keys = (state, jnp.bool_(False)), jax.random.split(key, times)
        (state, ended), (obs, reward) = jax.lax.scan(once, start, keys)
        return state, jax.tree.map(lambda x: x[-1], obs), reward.sum(), ended

    return repeat


def _save(env: Any, states: list, path: str | Path) -> Path:
    """Frames of MuJoCo's renderer where `MUJOCO_GL` names one, else a stick figure."""
    if not os.environ.get("MUJOCO_GL"):
        poses = [state.data.qpos for state in states]
        return sticks.render(env.mj_model, poses, path, 1 / env.dt)
    from PIL import Image

    from jaxrl.envs import drawing

    try:
        frames = env.render(states)
    except Exception as error:  # MuJoCo and its GL bindings raise several kinds
        message = f"MUJOCO_GL={os.environ['MUJOCO_GL']}: cannot render ({error}); try egl, or unset"
        raise UserError(message) from error
    return drawing.save_gif([Image.fromarray(frame) for frame in frames], path, 1 / env.dt)
