"""Save and resume any run, re-placed on the current devices; load an agent into a notebook."""

import importlib
import logging
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from jaxrl import parallel, paths, policies, population, processes, provenance, scaling
from jaxrl.errors import UserError
from jaxrl.loops.loop import Run
from jaxrl.types import Agent, Policy, PyTree, Spec, State, Transition

ITEMS = ("state", "rest")  # saved apart, so that `load` reads no replay


def _items(run: Run | tuple[Run, ...]) -> dict[str, list]:
    runs = (run,) if isinstance(run, Run) else run
    return {"state": [r.state for r in runs], "rest": [r._replace(state=None) for r in runs]}


def _joined(like: Run | tuple[Run, ...], items: Any) -> Run | tuple[Run, ...]:
    runs = [r._replace(state=s) for s, r in zip(items["state"], items["rest"], strict=True)]
    return runs[0] if isinstance(like, Run) else tuple(runs)


def _template(tree: PyTree) -> PyTree:
    """Shapes, types and placement of device arrays; arrays of the host as they are."""

    def leaf(x: Any) -> Any:
        if isinstance(x, jax.Array):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        return np.asarray(x)

    return jax.tree.map(leaf, tree)


def _without_empty(tree: PyTree) -> PyTree:
    """The tree without arrays of no elements, such as a simulator's unused ones: none is stored."""
    return jax.tree.map(lambda x: x if getattr(x, "size", 1) else None, tree)


def _with_empty(found: PyTree, template: PyTree) -> PyTree:
    """What was stored, with the arrays of no elements that `template`, if any, says it had."""
    if template is None:
        return found

    def leaf(x: Any, like: Any) -> Any:
        if x is not None or like is None:
            return x
        sharding = getattr(like, "sharding", None)
        return jnp.zeros(like.shape, like.dtype, device=sharding) if sharding else like

    return jax.tree.map(leaf, found, template, is_leaf=lambda x: x is None)


class Checkpoints:
    """Checkpoints of one run, written in the background: at most one every `every` seconds.

    The newest `keep` stay. A save that fails is reported and leaves the earlier ones as they are.
    """

    def __init__(self, directory: str | Path, every: float = 120.0, keep: int = 2):
        logging.getLogger("absl").setLevel(logging.ERROR)
        directory = paths.of(directory)
        self.directory = directory if paths.remote(directory) else directory.absolute()
        self.every = every
        self.saved = time.monotonic()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self.manager = ocp.CheckpointManager(self.directory, options=options, item_names=ITEMS)

    def resume(self, begin: Callable[[], Any]) -> Any:
        """The newest checkpoint that can be read, placed like `begin()`, or else `begin()`.

        Raises:
          UserError: there are checkpoints, and none can be read.
        """
        run = begin()
        steps = self.steps()
        if not steps:
            return run
        template = _template(_items(run))
        like = run._replace(replay=None) if isinstance(run, Run) else ()
        del run  # its arrays make room for those to come
        for step in steps:
            restored = self._read(step, template)
            if processes.every(restored is not None):
                self._forget_after(step)
                return _joined(like, restored)
        raise UserError(f"checkpoints: none of {steps} in {self.directory} can be read")

    def _read(self, step: int, template: dict[str, PyTree]) -> Any:
        """A checkpoint's items, or None, said on stderr, where it is damaged."""
        here = _here()  # for items without a template, saved where there were other devices
        args = {
            name: ocp.args.StandardRestore(_without_empty(x), fallback_sharding=here)
            for name, x in template.items()
        }
        try:
            found = self.manager.restore(step, args=ocp.args.Composite(**args))
            return {name: _with_empty(found[name], x) for name, x in template.items()}
        except Exception as error:  # whatever the storage layer raises on damaged files
            reason = str(error).splitlines()[0][:200]
            print(
                f"checkpoint {step} cannot be read, trying the one before: {reason}",
                file=sys.stderr,
            )
            return None

    def _forget_after(self, step: int) -> None:
        for damaged in [s for s in self.steps() if s > step]:
            self.manager.delete(damaged)

    def steps(self) -> list[int]:
        """Where there are checkpoints, the newest first; one that is under way counts."""
        return sorted(self.manager.all_steps(), reverse=True)

    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self.saved >= self.every

    def save(self, step: int, run: Run) -> bool:
        """Start saving, and return as soon as the run may be donated. False if that failed."""
        items = {name: _without_empty(tree) for name, tree in _items(run).items()}
        args = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        self.saved = time.monotonic()
        try:
            if self.manager.latest_step() != step:
                self.manager.save(step, args=ocp.args.Composite(**args), force=True)
        except Exception as error:  # of this save or of the one before, which ran behind
            return self._failed(error)
        return True

    def wait(self) -> bool:
        """Wait until the last save is on disk. False if it failed."""
        try:
            self.manager.wait_until_finished()
        except Exception as error:
            return self._failed(error)
        return True

    def _failed(self, error: Exception) -> bool:
        reason = str(error).splitlines()[0][:200]
        self.manager.reload()
        kept = self.manager.latest_step()
        print(f"checkpoint not saved ({reason}); the last good one is {kept}", file=sys.stderr)
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.wait()
        self.manager.close()


def encode_spec(spec: Spec) -> dict:
    """A `Spec` as JSON."""

    def leaf(s: jax.ShapeDtypeStruct) -> dict:
        return {"shape": list(s.shape), "dtype": str(s.dtype)}

    obs, action = jax.tree.map(leaf, spec.obs), leaf(spec.action)
    return {"obs": obs, "action": action, "num_actions": spec.num_actions}


def decode_spec(spec: dict) -> Spec:
    """The inverse of `encode_spec`."""

    def is_leaf(x: Any) -> bool:
        return isinstance(x, dict) and set(x) == {"shape", "dtype"}

    def leaf(s: dict) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(tuple(s["shape"]), s["dtype"])

    obs = jax.tree.map(leaf, spec["obs"], is_leaf=is_leaf)
    return Spec(obs, leaf(spec["action"]), spec["num_actions"])


settings = provenance.read  # of a run, from its directory


def _module(config: dict) -> ModuleType:
    return importlib.import_module(f"jaxrl.agents.{config['algorithm']}")


def config_of(config: dict) -> Any:
    """The agent's `Config` that a run's settings hold."""
    return _module(config).Config(**{name: _value(x) for name, x in config["agent"].items()})


def _value(x: Any) -> Any:
    """A setting from what JSON made of it: `provenance.plain` writes infinities as text."""
    if isinstance(x, list):
        return tuple(x)
    return float(x) if x in ("inf", "-inf", "nan") else x


def agent_of(config: dict) -> Agent:
    """The agent, of one seed, that a run's settings describe."""
    module, spec = _module(config), decode_spec(config["spec"])
    agent = module.make(spec, config_of(config))
    return scaling.scaled(agent, scaling_of(config)) if "scaling" in config else agent


def scaling_of(config: dict) -> scaling.Scaling:
    """What a run did to observations and rewards."""
    if "scaling" not in config:
        return scaling.Scaling()
    return scaling.decode(config["scaling"], decode_spec(config["spec"]))


def policy_of(config: dict, agent: Agent, targets: Sequence[float] = ()) -> Policy:
    """How the agent of a run acts: on windows, by chunks, by the best of many draws, or as it is.

    Args:
      targets: returns to ask for, in turn, instead of the run's own.

    Raises:
      UserError: targets for an agent that is not conditioned on a return.
    """
    if config.get("target") is None and targets:
        raise UserError(f"targets: {config['algorithm']} is not conditioned on a return")
    spec = decode_spec(config["spec"])
    if config.get("target") is None:
        see = partial(scaling.scale_obs, scaling_of(config))
        return policies.own(agent, _module(config), spec, config_of(config), see)
    context = config["agent"]["context"]
    return policies.windowed(agent, spec, context, jnp.asarray(targets or [config["target"]]))


def how_seeds(directory: str | Path, how: parallel.How, mesh: Mesh) -> parallel.How:
    """How a run's seeds are run; a resumed run keeps its way, whatever the devices are now."""
    if (paths.of(directory) / "config.json").exists():
        return settings(directory)["seeds"]
    return parallel.how_seeds(how, mesh)


def members(config: dict) -> list[dict]:
    """The settings of a run, or of every member of its sweep."""
    points = population.grid(config.get("sweep", {}).get("agent", {}))
    return [config | {"agent": config["agent"] | point} for point in points]


def of_one_setting(directory: str | Path) -> dict:
    """The settings of a run that is no sweep.

    Raises:
      UserError: no such run, or one of several settings.
    """
    config = settings(directory)
    if (n := len(members(config))) > 1:
        raise UserError(
            f"run: {directory} is a sweep of {n} settings, expected a run of one; train the one "
            "that you choose by itself"
        )
    return config


def load(directory: str | Path, seed: int | None = None, member: int = 0) -> tuple[Agent, State]:
    """The agent of a run and its newest state, without its replay.

    Args:
      seed: which of the run's seeds; the first where it is not given.
      member: which of the `members` of a sweep.

    Raises:
      UserError: no such run, seed, member or checkpoint.
    """
    config = settings(directory)
    all_members, n = members(config), config["num_seeds"]
    if not 0 <= member < len(all_members):
        raise UserError(f"member: found {member}, expected one of 0 to {len(all_members) - 1}")
    agent, index = agent_of(all_members[member]), member * n + _index(config, seed)
    shapes = jax.eval_shape(agent.init, jax.random.key(0))
    stacked, n = config["seeds"] == "vmap", n * len(all_members)
    states = _read_states(paths.of(directory) / "checkpoints", shapes, n, stacked)
    if not stacked:
        return agent, states[index]
    return agent, pick(states[0], index)


def load_replay(directory: str | Path, seed: int | None = None) -> tuple[Transition, int]:
    """What an off-policy run remembers at its newest checkpoint, and the rows it ever added.

    Raises:
      UserError: no such run or seed, or one that keeps no replay.
    """
    config = settings(directory)
    index, stacked = _index(config, seed), config["seeds"] == "vmap"
    with Checkpoints(paths.of(directory) / "checkpoints") as saved:
        items = _newest(saved, {"rest": None})["rest"]
    rest = items[0 if stacked else index]
    if not rest["replay"]:
        raise UserError(f"run: {directory} keeps no replay ({config['algorithm']})")
    ring = Transition(**rest["replay"])
    ring = jax.tree.map(lambda x: np.asarray(x[index] if stacked else x), ring)
    return ring, int(rest["step"])


def _index(config: dict, seed: int | None) -> int:
    """Which of a run's seeds this one is."""
    first, n = config["seed"], config["num_seeds"]
    index = 0 if seed is None else seed - first
    if not 0 <= index < n:
        raise UserError(f"seed: found {seed}, expected one of {first} to {first + n - 1}")
    return index


def pick(state: State, index: int) -> State:
    """The state of one seed, from that of all of them, `[n]`."""
    picked = jax.tree.map(lambda x: x[index], state._replace(step=None))
    return picked._replace(step=state.step)


def _here() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def _read_states(directory: Path, shapes: State, n: int, stacked: bool) -> list[State]:
    """The states of all seeds in the newest checkpoint that can be read."""
    device = _here()

    def leaf(x: Any) -> jax.ShapeDtypeStruct:
        shape = (n, *x.shape) if stacked else x.shape
        return jax.ShapeDtypeStruct(shape, x.dtype, sharding=device)

    template = jax.tree.map(leaf, shapes)
    step = jax.ShapeDtypeStruct((), shapes.step.dtype, sharding=device)
    templates = [template._replace(step=step)] * (1 if stacked else n)
    if not directory.exists():
        raise UserError(f"run: {directory} does not exist; the run has saved nothing yet")
    with Checkpoints(directory) as saved:
        return _newest(saved, {"state": templates})["state"]


def _newest(saved: Checkpoints, template: dict[str, PyTree]) -> Any:
    """The items of the newest checkpoint that can be read."""
    for number in saved.steps():
        if (items := saved._read(number, template)) is not None:
            return items
    raise UserError(f"run: no checkpoint in {saved.directory} can be read")
