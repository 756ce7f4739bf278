"""Agents and loops whose members differ in numbers of their settings, as one program."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_type_hints

import jax
import jax.numpy as jnp

from jaxrl import parallel
from jaxrl.errors import UserError
from jaxrl.loops import Loop, loop
from jaxrl.types import Agent, Policy, Spec

Values = Mapping[str, Any]  # of the settings that differ, by name; arrays [n], or one member's


def varied(configs: Sequence[Any]) -> tuple[Any, Values]:
    """The first of some settings, and what the float fields that differ are in all of them.

    Raises:
      UserError: there are none, or a field differs that decides the program, such as an integer
        or a flag.
    """
    if not configs:
        raise UserError("population: found no settings, expected those of at least one member")
    names = [field.name for field in dataclasses.fields(configs[0])]
    columns = {name: [getattr(config, name) for config in configs] for name in names}
    columns = {name: column for name, column in columns.items() if len(set(column)) > 1}
    hints = get_type_hints(type(configs[0]))
    for name, column in columns.items():
        numbers = (float, int) if float in (hints[name], *get_args(hints[name])) else (float,)
        if not all(type(value) in numbers for value in column):
            raise UserError(
                f"population: {name} differs ({column}) and is no number that can vary inside one "
                "program; expected the same in all members"
            )
    return configs[0], {name: jnp.asarray(column, float) for name, column in columns.items()}


def population(make: Callable[[Spec, Any], Agent], spec: Spec, configs: Sequence[Any]) -> Agent:
    """An agent of as many members as there are settings, which may differ in their float fields.

    Keys, batches and metrics gain an axis `[n]`, and so does every leaf of the state but `step`.

    Args:
      make: an algorithm's, `sac.make`.

    Raises:
      UserError: as `varied`.
    """
    base, values = varied(configs)

    def member(values: Values) -> Agent:
        return make(spec, dataclasses.replace(base, **values))

    def init(keys):
        state = jax.vmap(lambda v, key: member(v).init(key))(values, keys)
        return state._replace(step=state.step[0])

    def update(state, batch, keys):
        axes = parallel.seed_axes(state)
        one = jax.vmap(lambda v, *x: member(v).update(*x), (0, axes, 0, 0), (axes, 0))
        return one(values, state, batch, keys)

    def act(state, obs, key=None):
        axes, keys = parallel.seed_axes(state), () if key is None else (key,)
        one = jax.vmap(lambda v, *x: member(v).act(*x), (0, axes, 0) + (0,) * len(keys))
        return one(values, state, obs, *keys)

    for config in configs:
        make(spec, config)  # refuses settings before they are tracers
    return Agent(init, update, act)


def play(make: Callable[[Values], Loop], values: Values) -> Loop:
    """A loop of members, each with its own key and values; see `loops.seeds` for the axes."""
    return loop.mapped_over(make, values, make(member_of(values, 0)).data)


def policy(make: Callable[[Values], Policy], values: Values) -> Policy:
    """How a member acts, on a pair of its values and its agent's state."""

    def step(pair, *args):
        return make(pair[0]).step(pair[1], *args)

    return Policy(make(member_of(values, 0)).start, step)


def member_of(values: Values, index: int) -> Values:
    """The values of one member, as numbers."""
    return {name: float(column[index]) for name, column in values.items()}


def grid(choices: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of the values to try, by name; one, empty, where there are none.

    Raises:
      UserError: a value is there twice.
    """
    chosen = {name: values for name, values in choices.items() if values}
    for name, values in chosen.items():
        if len(set(values)) < len(values):
            raise UserError(f"sweep: {name} names a value twice ({values})")
    return [dict(zip(chosen, point, strict=True)) for point in itertools.product(*chosen.values())]


@dataclasses.dataclass(frozen=True)
class Choices:
    """Values to try of the numbers among an agent's settings; `sweepable` adds the fields."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Settings to try side by side, in every combination."""

    agent: Choices = Choices()


def sweepable(config: Any) -> Any:
    """A script's settings with a field `sweep.agent.NAME` for every number among the agent's."""
    floats = [f.name for f in dataclasses.fields(config.agent) if _is_float(config.agent, f.name)]
    options: Any = {"frozen": True}
    choices = [(name, tuple[float, ...], ()) for name in floats]
    agent = dataclasses.make_dataclass("Choices", choices, bases=(Choices,), **options)
    fields = [("agent", agent, agent())]
    sweep = dataclasses.make_dataclass("Sweep", fields, bases=(Sweep,), **options)
    fields = [("sweep", sweep, sweep())]
    kind = dataclasses.make_dataclass(
        type(config).__name__, fields, bases=(type(config),), **options
    )
    kept = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return kind(**kept | {"sweep": sweep()})


def _is_float(config: Any, name: str) -> bool:
    return type(getattr(config, name)) is float
