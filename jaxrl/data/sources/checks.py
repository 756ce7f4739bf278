"""What every reader refuses, naming file and field, and what a user may ask to have repaired."""

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.data.episodes import storage_dtype
from jaxrl.errors import UserError, unknown_name
from jaxrl.types import PyTree, Spec

CHUNK = 65_536  # rows read at once from flat files
NUMBERS = "fiub"  # kinds of numpy's types
ACTION_SLACK = 1e-3  # beyond [-1, 1], clipped without asking
REPAIRS = {
    "float64": "round it to float32",
    "actions": "clip them",
    "tail": "end the last episode there, as at a time limit",
}
Row = int | np.ndarray  # number of the first row in its file, or those of all


@dataclass(frozen=True)
class Checks:
    """How the numbers of one file are taken.

    D4RL and OGBench files are float32 by convention, so float64 says that something else wrote
    them. Minari and RLDS state their types, and float64 is ordinary there: it is rounded.
    """

    path: str
    repair: frozenset[str] = frozenset()
    rounds: bool = False  # float64 is ordinary in this format

    def error(self, field: str, message: str, repair: str = "") -> UserError:
        if repair:
            message += f"; load with repair={repair!r} to {REPAIRS[repair]}"
        return UserError(f"{self.path}: {field}: {message}")

    def keys(self, found: Collection[str], required: Iterable[str]) -> None:
        """Refuse a file without the fields it must have."""
        for field in required:
            if field not in found:
                listed = ", ".join(sorted(found)) or "nothing"
                raise self.error(field, f"missing; the file has {listed}")

    def shape(self, field: str, found: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
        """Refuse a shape that differs; None in `expected` takes any size."""
        alike = len(found) == len(expected) and all(
            e in (None, f) for f, e in zip(found, expected, strict=True)
        )
        if not alike:
            wanted = ", ".join("any" if e is None else str(e) for e in expected)
            raise self.error(field, f"found shape {tuple(found)}, expected ({wanted})")

    def actions_shape(self, field: str, found: tuple[int, ...], rows: int | None = None) -> None:
        """Refuse actions that are neither `[rows, A]`, of at least one number, nor `[rows]`."""
        self.shape(field, found, (rows,) if len(found) == 1 else (rows, None))
        if found[1:] == (0,):
            raise self.error(field, f"found shape {found}, expected at least one column")

    def dtype(self, field: str, dtype: Any) -> np.dtype:
        """What numbers of `dtype` are kept as; refuses text, and float64 where it is a surprise."""
        dtype = np.dtype(dtype)
        if dtype.kind not in NUMBERS:
            raise self.error(field, f"found type {dtype}, expected numbers")
        if dtype == np.float64 and not self.rounds and "float64" not in self.repair:
            raise self.error(field, "found float64, expected float32", "float64")
        return storage_dtype(dtype)

    def numbers(self, field: str, values: np.ndarray, row: Row = 0) -> np.ndarray:
        """`values` as they are kept; refuses NaN and infinity."""
        values = np.asarray(values)
        kept = values.astype(self.dtype(field, values.dtype), copy=False)
        if kept.dtype.kind != "f" or np.isfinite(kept).all():
            return kept
        finite = np.isfinite(kept).reshape(len(kept), -1).all(1)
        bad = int(np.argmin(finite))
        raise self.error(field, f"row {_number(row, bad)} is not finite ({kept[bad]})")

    def flags(self, field: str, values: np.ndarray, row: Row = 0) -> np.ndarray:
        """Booleans, or numbers of any type that are all 0 or 1, as booleans."""
        values = np.asarray(values)
        if values.dtype.kind not in NUMBERS:
            raise self.error(field, f"found type {values.dtype}, expected 0 or 1")
        wrong = (values != 0) & (values != 1)  # NaN too
        if not wrong.any():
            return values.astype(bool, copy=False)
        bad = int(np.argmax(wrong))
        found = f"row {_number(row, bad)} is {values[bad]}"
        raise self.error(field, f"{found}, expected 0 or 1")

    def ends(self, field: str, values: np.ndarray) -> bool:
        """Whether an episode's flags say that it ended at its last step; refuses earlier ends."""
        flags = self.flags(field, values)
        if flags[:-1].any():
            raise self.error(field, f"the episode goes on after step {int(np.argmax(flags))}")
        return bool(flags[-1])

    def actions(self, field: str, values: np.ndarray, row: Row = 0) -> np.ndarray:
        """Actions in [-1, 1], or integers from zero."""
        values = self.numbers(field, values, row)
        low, high = (values.min(), values.max()) if values.size else (0, 0)
        if values.dtype.kind != "f":
            if low < 0:
                raise self.error(field, f"found {low}, expected integers from 0")
            return values
        if max(-low, high) > 1 + ACTION_SLACK and "actions" not in self.repair:
            raise self.error(field, f"found [{low:g}, {high:g}], expected [-1, 1]", "actions")
        return values.clip(-1, 1) if max(-low, high) > 1 else values

    def tail(self, field: str, ended: bool, where: str) -> None:
        """Refuse an episode that does not say how it ended."""
        if not ended and "tail" not in self.repair:
            raise self.error(field, f"{where} does not end", "tail")

    @contextlib.contextmanager
    def reading(self, field: str) -> Iterator[None]:
        """Turn a failure to read into an error that names the field."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # whatever a library makes of a broken file
            raise self.error(field, f"cannot be read ({_first_line(error)})") from error


def existing(path: Path, kind: str) -> Path:
    """`path`, or an error that lists what is near it."""
    if path.exists():
        return path
    parent = path.parent
    beside = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
    if not beside:
        raise UserError(f"{path}: does not exist; expected {kind}")
    raise unknown_name(f"{path}: does not exist, expected {kind}", path.name, beside)


def check_repair(repair: str | Collection[str]) -> frozenset[str]:
    """The names of repairs; refuses unknown ones."""
    names = frozenset([repair] if isinstance(repair, str) else repair)
    for name in names - REPAIRS.keys():
        raise unknown_name("repair", name, REPAIRS)
    return names


def spec_of(
    checks: Checks, obs: dict[str, PyTree], action: dict[str, Any], num_actions: int | None = None
) -> Spec:
    """Spec of one field each of observations and actions: arrays, or what has shape and dtype.

    Shapes are `[rows, ...]`.
    """

    def row(path: tuple, x: Any) -> jax.ShapeDtypeStruct:
        field = jax.tree_util.keystr(path, simple=True, separator="/")
        return jax.ShapeDtypeStruct(tuple(x.shape[1:]), checks.dtype(field, x.dtype))

    rows = jax.tree_util.tree_map_with_path
    (obs_row,) = rows(row, obs, is_leaf=_sized).values()
    (action_row,) = rows(row, action, is_leaf=_sized).values()
    return Spec(obs_row, action_row, num_actions)


def _number(row: Row, index: int) -> int:
    return row + index if isinstance(row, int) else int(row[index])


def _sized(x: Any) -> bool:
    return hasattr(x, "dtype")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
