"""Environments by name: `backend/Name`, or a user's own `package.module:function`."""

import fnmatch
import importlib
import os
import sys
from collections.abc import Callable
from urllib.parse import parse_qsl

from jaxrl.envs import brax, cartpole, checks, detour, gymnax, pendulum, playground
from jaxrl.envs.base import Env
from jaxrl.envs.gymnasium import HostEnv
from jaxrl.errors import UserError, unknown_name

EMBEDDED = {
    "Pendulum-v1": pendulum.make,
    "CartPole-v1": cartpole.make,
    "detour-v0": detour.make,
}


def _embedded(name: str) -> Env:
    if name not in EMBEDDED:
        raise unknown_name("env jaxrl/", name, EMBEDDED)
    return EMBEDDED[name]()


BACKENDS: dict[str, Callable[..., Env | HostEnv]] = {
    "jaxrl": _embedded,
    "gymnax": gymnax.make,
    "brax": brax.make,
    "playground": playground.make,
    "gymnasium": HostEnv,
}
OPTIONS = {"brax": {"backend"}, "playground": {"action_repeat"}}  # may follow a question mark
# Returns from which an episode is a success; a sum of float32 may fall short of 1
SUCCESS = {"jaxrl/detour-v0": 1.0, "gymnasium/gym_pusht/*return=best*": 1 - 1e-5}


def success_return(name: str) -> float | None:
    """The return from which an episode of a task is a success, if the task has such a measure."""
    found = [value for pattern, value in SUCCESS.items() if fnmatch.fnmatch(name, pattern)]
    return next(iter(found), None)


def make(name: str, num_envs: int = 1) -> Env | HostEnv:
    """The environment of a name.

    Args:
      name: `jaxrl/Pendulum-v1`, `gymnax/CartPole-v1`, `brax/ant` (on its default engine) or
        `brax/ant?backend=spring`, `playground/CheetahRun` (with the task's own action repeat) or
        `playground/PendulumSwingup?action_repeat=4`, `gymnasium/HalfCheetah-v5` (whose options are
        in `HostEnv`), or `package.module:function`, which returns an `Env`.
      num_envs: of a Gymnasium environment, which is stateful; the others are for one, to `vmap`.

    Raises:
      UserError: an unknown name, with the near ones; a missing extra, with its command; a
        function of the user's that does not return what its `spec` says.
    """
    backend, slash, rest = name.partition("/")
    if ":" in backend:
        return _users_own(name)
    if not slash:
        known = ", ".join(BACKENDS)
        raise UserError(f"env: found {name!r}, expected BACKEND/NAME with BACKEND one of {known}")
    if backend not in BACKENDS:
        raise unknown_name("env backend", backend, BACKENDS)
    if backend == "gymnasium":
        return HostEnv(rest, num_envs)
    task, _, query = rest.partition("?")
    options = dict(parse_qsl(query))
    unexpected = options.keys() - OPTIONS.get(backend, set())
    if unexpected or (query and not options):
        raise UserError(f"env {name}: backend {backend} has no option {query!r}")
    return BACKENDS[backend](task, **options)


def _users_own(name: str) -> Env:
    """`module:function`, the module looked for in the working directory too."""
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"env {name}: cannot import {module_name} ({error})") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"env {name}: {module_name} has no function {function_name!r}")
    env = checks.called(f"env {name}", function)
    checks.check_env(f"env {name}", env)
    return env
