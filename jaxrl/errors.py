"""The error that says what a user should change."""

import contextlib
import difflib
import importlib
import sys
from collections.abc import Iterable, Sequence
from numbers import Integral
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints

DTYPES = ("float32", "bfloat16", "float16", "float64")  # that networks may compute in
RANGES = {  # of settings that mean the same in every agent
    "dropout": (0, 0.999),  # what is kept is divided by 1 - dropout
    "embedding": (4, float("inf")),  # of a time: sinusoids of two frequencies or more
}


class UserError(ValueError):
    """Bad input: names the argument or file, what was found and what was expected.

    The scripts print it as one line and exit with status 2.
    """


def check_range(name: str, value: object, low: float, high: float = float("inf")) -> None:
    """Raise unless `low <= value <= high`. Traced values, as in a sweep, pass unchecked."""
    if isinstance(value, int | float) and not low <= value <= high:
        raise UserError(f"{name}: found {value}, expected a number in [{low:g}, {high:g}]")


def check_config(config: Any) -> None:
    """Raise where an agent's setting is none of those that its annotation or its name allows.

    Literals hold one of their values, tuples of integers only sizes >= 1, `dtype` is None or a
    float type, learning rates are >= 0, and the settings in `RANGES` are within theirs. Traced
    values pass, as in `check_range`.
    """
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(hint) is Literal:
            check_choice(name, value, get_args(hint))
        elif name == "dtype":
            check_choice(name, value, (None, *DTYPES))
        elif hint == tuple[int, ...]:
            check_sizes(name, value)
        elif name.endswith("learning_rate"):
            check_range(name, value, 0)
        elif name in RANGES:
            check_range(name, value, *RANGES[name])


def check_choice(name: str, value: object, offered: Sequence[object]) -> None:
    """Raise unless `value` is one of those `offered`, which the message lists."""
    if value not in offered:
        expected = ", ".join(map(str, offered))
        raise UserError(f"{name}: found {value!r}, expected one of {expected}")


def check_sizes(name: str, value: object) -> None:
    """Raise unless `value` holds nothing but integers >= 1; it may be empty."""
    sizes = value if isinstance(value, tuple | list) else (None,)
    if not all(isinstance(size, Integral) and int(size) >= 1 for size in sizes):
        raise UserError(f"{name}: found {value}, expected a tuple of integers >= 1")


def check_continuous(agent: str, num_actions: int | None) -> None:
    """Raise where the task's actions are `num_actions` choices."""
    if num_actions is not None:
        raise UserError(f"{agent} needs continuous actions; this task has {num_actions} choices")


def unknown_name(argument: str, found: str, offered: Iterable[str]) -> UserError:
    """The error for a name that is not offered: it lists the near ones, or some where none is."""
    names = {name.lower(): name for name in offered}
    near = difflib.get_close_matches(found.lower(), names, n=6, cutoff=0.4)
    listed = [names[name] for name in near] or sorted(names.values())[:12]
    kind = "near names" if near else "some that exist"
    return UserError(f"{argument}: no {found!r}; {kind}: {', '.join(listed)}")


def require(module: str, extra: str, needed_by: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    What the import prints goes to stderr: mujoco.mjx prints a notice, and stdout is for results.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(module)
    except ImportError as error:
        message = f"{needed_by} needs the extra {extra!r} ({error}): pip install 'jaxrl[{extra}]'"
        raise UserError(message) from error


def check_divides(name: str, parts: int, size: int, what: str) -> None:
    """Raise unless `size` `what` split into `parts` equal parts; names the nearest that work."""
    if size % parts:
        divisors = [d for d in range(1, size + 1) if size % d == 0]
        near = [d for d in divisors if d < parts][-1:] + [d for d in divisors if d > parts][:1]
        raise UserError(f"{name}: found {parts}, which does not divide {size} {what}; try {near}")
