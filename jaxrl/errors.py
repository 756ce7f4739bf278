"""The error that says what a user should change."""

import contextlib
import difflib
import importlib
import sys
from collections.abc import Iterable
from types import ModuleType


class UserError(ValueError):
    """Bad input: names the argument or file, what was found and what was expected.

    The scripts print it as one line and exit with status 2.
    """


def check_range(name: str, value: object, low: float, high: float = float("inf")) -> None:
    """Raise unless `low <= value <= high`. Traced values, as in a sweep, pass unchecked."""
    if isinstance(value, int | float) and not low <= value <= high:
        raise UserError(f"{name}: found {value}, expected a number in [{low:g}, {high:g}]")


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
