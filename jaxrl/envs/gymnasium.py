"""Adapter for Gymnasium: environments that run on the host, stepped in turn."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs import sticks
from jaxrl.envs.foreign import check_bounded, to_box
from jaxrl.envs.resume import EXACT, Recorder
from jaxrl.errors import UserError, check_range, require, unknown_name
from jaxrl.types import Spec

# What registers the tasks of a namespace, and the extra that brings it
NAMESPACES = {"gym_pusht": ("gym_pusht.envs", "pusht")}


class HostStep(NamedTuple):
    """What `HostEnv.step` returns: NumPy arrays, meanings as in `TimeStep`."""

    obs: np.ndarray  # [N, *obs_shape] float32, already reset where `last`
    reward: np.ndarray  # [N] float32
    discount: np.ndarray  # [N] float32, 0 where the MDP ended, 1 otherwise
    next_obs: np.ndarray  # [N, *obs_shape] float32, the true successor
    last: np.ndarray  # [N] bool


class HostEnv:
    """`num_envs` environments of one Gymnasium id: stateful, since its simulators are.

    Observations are float32; a space other than a box is flattened (a discrete one is one-hot).
    Continuous actions in [-1, 1] are clipped, then scaled to the box. The MuJoCo v5 tasks resume
    exactly from `snapshot`; `resume_note` says what restarts in the others.

    An id may end in options: `NAME?obs_type=state` goes to the constructor, and with `?return=best`
    a reward is what the best of the episode so far has grown by, so that the return is the best.
    """

    def __init__(self, id: str, num_envs: int = 1):
        check_range("num_envs", num_envs, 1)
        self.id, self.num_envs = id, num_envs
        self.name = f"gymnasium/{id}"
        task, options, self._best_counts = _parsed(self.name, id)
        extra = NAMESPACES.get(task.partition("/")[0], ("", "mujoco"))[1]
        self._library = require("gymnasium", extra, f"env {self.name}")
        self._envs = [_make(self._library, task, options) for _ in range(num_envs)]
        self._best = np.full(num_envs, -np.inf)  # reward of each episode so far
        self._recorders = [Recorder(env, self.exact_resume) for env in self._envs]
        self.spec, self._scale = self._spaces()
        self.reset(range(num_envs))

    def _spaces(self) -> tuple[Spec, Any]:
        space = self._envs[0].action_space
        obs = jax.ShapeDtypeStruct(self._features(self._envs[0].reset()[0]).shape, jnp.float32)
        if isinstance(space, self._library.spaces.Discrete):
            spec = Spec(obs, jax.ShapeDtypeStruct((), jnp.int32), int(space.n))
            return spec, lambda action: action + space.start
        if not isinstance(space, self._library.spaces.Box):
            raise UserError(f"env {self.name}: found actions {space}, expected Box or Discrete")
        check_bounded(f"env {self.name}", space.low, space.high)
        spec = Spec(obs, jax.ShapeDtypeStruct(space.shape, jnp.float32))
        return spec, lambda action: to_box(action, space.low[None], space.high[None])

    def _features(self, obs: Any) -> np.ndarray:
        space = self._envs[0].observation_space
        if not isinstance(space, self._library.spaces.Box):
            obs = self._library.spaces.flatten(space, obs)
        return np.asarray(obs, np.float32)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Start an episode in each environment from its own seed; returns `obs [N, ...]`."""
        if len(seeds) != self.num_envs:
            raise UserError(f"seeds: found {len(seeds)}, expected one each of {self.num_envs}")
        return np.stack([self._restart(i, int(seed)) for i, seed in enumerate(seeds)])

    def _restart(self, i: int, seed: int | None = None) -> np.ndarray:
        obs, _ = self._envs[i].reset(seed=seed)
        self._best[i] = -np.inf
        self._recorders[i].after_reset()
        return self._features(obs)

    def step(self, action: np.ndarray) -> HostStep:
        """Step every environment, and reset those whose episode ended.

        Args:
          action: `[N, *action_shape]` in [-1, 1], or `[N]` integers.
        """
        controls = self._scale(np.asarray(action))
        steps = [self._step(i, control) for i, control in enumerate(controls)]
        next_obs, reward, terminated, truncated = map(np.array, zip(*steps, strict=True))
        last = terminated | truncated
        obs = next_obs.copy()
        for i in last.nonzero()[0].tolist():
            obs[i] = self._restart(i)
        discount = 1 - terminated.astype(np.float32)
        return HostStep(obs, reward.astype(np.float32), discount, next_obs, last)

    def _step(self, i: int, control: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        self._recorders[i].before_step(control)
        obs, reward, terminated, truncated, _ = self._envs[i].step(control)
        counted = self._gain(i, float(reward)) if self._best_counts else float(reward)
        return self._features(obs), counted, bool(terminated), bool(truncated)

    def _gain(self, i: int, reward: float) -> float:
        """What a reward adds to the best of the episode."""
        before, self._best[i] = self._best[i], max(self._best[i], reward)
        return reward if np.isinf(before) else self._best[i] - before

    @property
    def simulators(self) -> list[Any]:
        """The environments of Gymnasium, without what wraps them."""
        return [env.unwrapped for env in self._envs]

    @property
    def exact_resume(self) -> bool:
        """Whether `restore` continues to the bit what `snapshot` saved."""
        return self.id in EXACT

    @property
    def resume_note(self) -> str:
        """What starts anew at a resume; empty where nothing does."""
        if self.exact_resume:
            return ""
        return f"{self.name}: its state cannot be saved, so episodes in progress start anew"

    def snapshot(self) -> dict[str, np.ndarray]:
        """State of all environments: NumPy arrays `[N, ...]` of fixed shapes, some of 64 bits."""
        trees = [recorder.save() for recorder in self._recorders]
        return {name: np.stack([tree[name] for tree in trees]) for name in trees[0]}

    def restore(self, tree: dict[str, np.ndarray]) -> np.ndarray:
        """Continue from a `snapshot`; returns the observations `[N, ...]` to act on.

        Where `exact_resume` is False these are of new episodes, drawn from the saved generators.
        """
        expected = jax.tree.map(np.shape, self.snapshot())
        found = jax.tree.map(np.shape, dict(tree))
        if found != expected:
            raise UserError(f"snapshot of {self.name}: found {found}, expected {expected}")
        self._best[:] = -np.inf
        rows = [{name: leaf[i] for name, leaf in tree.items()} for i in range(self.num_envs)]
        pairs = zip(self._recorders, rows, strict=True)
        return np.stack([self._features(recorder.load(row)) for recorder, row in pairs])

    def pose(self, index: int = 0) -> np.ndarray | None:
        """Joint positions `[nq]` of one environment, to be collected for `render`."""
        data = getattr(self._envs[index].unwrapped, "data", None)
        return None if data is None else data.qpos.copy()

    @property
    def render(self) -> Callable[[Sequence[np.ndarray], str | Path], Path] | None:
        """Writes poses as a stick figure to a path with the suffix `.gif`; None without MuJoCo."""
        env = self._envs[0].unwrapped
        if not hasattr(env, "model"):
            return None
        return lambda poses, path: sticks.render(env.model, poses, path, 1 / env.dt)

    def close(self) -> None:
        """Release the simulators."""
        for env in self._envs:
            env.close()


def _parsed(name: str, id: str) -> tuple[str, dict[str, Any], bool]:
    """The registered name, arguments of its constructor, and whether the best reward counts."""
    task, question, query = id.partition("?")
    options: dict[str, Any] = dict(parse_qsl(query))
    if question and not options:
        raise UserError(f"env {name}: found {query!r} after the question mark, expected KEY=VALUE")
    counted = options.pop("return", "sum")
    if counted not in ("sum", "best"):
        raise UserError(f"env {name}: found return={counted}, expected sum or best")
    return task, {key: _value(text) for key, text in options.items()}, counted == "best"


def _value(text: str) -> Any:
    """A number or a truth value where JSON reads one, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _make(library: Any, id: str, options: dict[str, Any]) -> Any:
    """A Gymnasium environment; `module:Name` imports the module that registers it first."""
    namespace = id.partition("/")[0]
    if namespace in NAMESPACES:
        require(*NAMESPACES[namespace], f"env gymnasium/{id}")
    if ":" not in id and id not in library.registry:
        raise unknown_name("env gymnasium/", id, library.registry)
    try:
        return library.make(id, disable_env_checker=True, **options)
    except library.error.DependencyNotInstalled as error:
        message = f"env gymnasium/{id} needs more than Gymnasium ({error}); for MuJoCo tasks:"
        raise UserError(f"{message} pip install 'jaxrl[mujoco]'") from error
    except (library.error.Error, ImportError, TypeError, ValueError) as error:
        raise UserError(f"env gymnasium/{id}: {error}") from error
