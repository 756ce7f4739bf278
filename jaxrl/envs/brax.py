"""Adapter for brax: rigid-body locomotion in JAX."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.envs.base import Env, auto_reset
from jaxrl.envs.foreign import functional, pooled, shapes
from jaxrl.errors import UserError, require, unknown_name
from jaxrl.types import Spec

BACKENDS = ("generalized", "spring", "positional", "mjx")
EPISODE_LENGTH = 1000
BROKEN = {"swimmer": "brax 0.14 calls jax.numpy.clip with an argument that it no longer has"}


def make(name: str, backend: str = "generalized") -> Env:
    """The environment `name` of brax on the physics engine `backend` (brax's own default).

    Episodes end where the task does, or, with discount 1, after 1000 steps. Every episode after
    an environment's first starts from a pool of 256 states (`foreign.pooled`). Scores do not
    compare with Gymnasium's tasks of the same name: observations and physics differ.
    """
    library = require("brax.envs", "brax", f"env brax/{name}")
    if name not in library._envs:
        raise unknown_name("env brax/", name, library._envs)
    if name in BROKEN:
        raise UserError(f"env brax/{name}: not usable: {BROKEN[name]}")
    if backend not in BACKENDS:
        raise unknown_name(f"env brax/{name}?backend=", backend, BACKENDS)
    env = library.get_environment(name, backend=backend)
    reset, dynamics = functional(env)
    action = jax.ShapeDtypeStruct((env.action_size,), jnp.result_type(float))
    spec = Spec(shapes(reset), action)

    def render(states: list, path: str | Path) -> Path:
        return save_html(env, [state.pipeline_state for state in states], path)

    return auto_reset(spec, reset, dynamics, EPISODE_LENGTH, render, pooled(reset))


def save_html(env: Any, states: list, path: str | Path) -> Path:
    """Write brax's interactive viewer to `path` with the suffix `.html`.

    The page loads its scripts from the network, and stays blank without.
    """
    from brax.io import html

    path = Path(f"{path}.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    system = env.sys.tree_replace({"opt.timestep": env.dt})  # of a frame, not of the physics
    path.write_text(html.render(system, states))
    return path
