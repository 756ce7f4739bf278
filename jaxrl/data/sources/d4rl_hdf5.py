"""D4RL's HDF5 files: one row per transition, episodes one after another.

`next_observations` and `timeouts` may both be absent, as in the files before version 2:

- Without `timeouts`, an episode also ends where an observation is not the successor of the one
  before; and without `next_observations` either, after the time limit of the locomotion tasks.
- Without `next_observations`, the last transition before a time limit is dropped, since nobody
  knows where it led. The successor of a terminal transition is its own observation; it is never
  used, as the discount is 0.

A row that is both terminal and timed out is terminal.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from jaxrl.data import d4rl
from jaxrl.data.episodes import Put, Source
from jaxrl.data.sources.checks import CHUNK, Checks, existing, spec_of

REQUIRED = ("observations", "actions", "rewards", "terminals")
JUMP = 1e-6  # distance between an observation and the successor it should be


class Rows(NamedTuple):
    """Where the rows of a file go; `[N]` unless said."""

    end: np.ndarray  # [E] the last row of each episode
    terminal: np.ndarray  # bool
    known: np.ndarray  # bool, the row's successor is known, so that it is a transition
    target: np.ndarray  # int32, row among those of all episodes, with final observations


def open_source(name: str, repair: frozenset[str] = frozenset()) -> Source:
    """The episodes of a D4RL file.

    Raises:
      UserError: the file does not exist, is truncated, lacks a field, or a field has another shape
        or type than it should; the last episode has no end although the file has `timeouts`.
    """
    path = existing(Path(name).expanduser(), "a D4RL HDF5 file")
    checks = Checks(str(path), repair)
    with opened(checks) as file:
        _check_shapes(file, checks)
        spec = spec_of(checks, {"observations": file["observations"]}, {"actions": file["actions"]})
        rows = _rows(file, checks)
    lengths = np.add.reduceat(rows.known, np.append(0, rows.end[:-1] + 1), dtype=np.int64)
    return Source(str(path), spec, lengths, partial(_fill, checks, rows), {"dataset": path.stem})


@contextlib.contextmanager
def opened(checks: Checks) -> Iterator[h5py.File]:
    """The file, or an error that names it."""
    with checks.reading("HDF5 file"):
        file = h5py.File(checks.path)
    with file:
        yield file


def check_arrays(
    checks: Checks, found: Mapping[str, Any], fields: Iterable[str], under: str = ""
) -> None:
    """Refuse a group where an array should be; `under` is where the fields are."""
    for field in fields:
        if not isinstance(found[field], h5py.Dataset):
            raise checks.error(f"{under}{field}", "found a group, expected an array")


def _check_shapes(file: h5py.File, checks: Checks) -> None:
    checks.keys(file.keys(), REQUIRED)
    check_arrays(checks, file, (*REQUIRED, *file.keys() & {"timeouts", "next_observations"}))
    obs = file["observations"].shape
    n = obs[0] if obs else 0
    if n < 1:
        raise checks.error("observations", f"found shape {obs}, expected at least one row")
    checks.actions_shape("actions", file["actions"].shape, n)
    checks.shape("rewards", file["rewards"].shape, (n,))
    checks.shape("terminals", file["terminals"].shape, (n,))
    if "timeouts" in file:
        checks.shape("timeouts", file["timeouts"].shape, (n,))
    if "next_observations" in file:
        checks.shape("next_observations", file["next_observations"].shape, obs)


def _rows(file: h5py.File, checks: Checks) -> Rows:
    with checks.reading("terminals"):
        terminal = checks.flags("terminals", file["terminals"][()])
    ends = terminal | _time_limits(file, checks, terminal)
    if "timeouts" in file:
        checks.tail("timeouts", bool(ends[-1]), f"the episode up to row {len(ends) - 1}")
    ends[-1] = True
    known = terminal | ~ends if "next_observations" not in file else np.ones_like(ends)
    end = np.flatnonzero(ends)
    short = end[np.diff(end, prepend=-1) == 1]
    if not known[short].all():
        raise checks.error("timeouts", "an episode of one row without successor has no transition")
    extra = ends & known  # episodes whose final observation takes a row of its own
    target = np.arange(len(ends), dtype=np.int32) + np.cumsum(extra, dtype=np.int32) - extra
    return Rows(end, terminal, known, target)


def _time_limits(file: h5py.File, checks: Checks, terminal: np.ndarray) -> np.ndarray:
    """Where episodes were cut. [N] bool"""
    if "timeouts" in file:
        with checks.reading("timeouts"):
            return checks.flags("timeouts", file["timeouts"][()])
    cut = np.zeros_like(terminal)
    if "next_observations" in file:
        for start, successor in chunks(file, checks, "next_observations"):
            following = file["observations"][start + 1 : start + len(successor) + 1]
            gap = np.square(successor[: len(following)] - following)
            cut[start : start + len(gap)] = gap.sum(tuple(range(1, gap.ndim))) > JUMP**2
    elif Path(checks.path).stem.lower().startswith(d4rl.LOCOMOTION):
        begin = 0
        for end in np.append(np.flatnonzero(terminal), len(terminal) - 1):
            limit = d4rl.LOCOMOTION_TIME_LIMIT
            cut[begin + limit - 1 : end : limit] = True
            begin = end + 1
    return cut


def chunks(file: h5py.File, checks: Checks, field: str) -> Iterator[tuple[int, np.ndarray]]:
    """Consecutive rows of a field, checked, each with the number of the first."""
    take = checks.actions if field == "actions" else checks.numbers
    for start in range(0, file[field].shape[0], CHUNK):
        with checks.reading(field):
            values = file[field][start : start + CHUNK]
        yield start, take(field, values, start)


def _fill(checks: Checks, rows: Rows, put: Put) -> None:
    with opened(checks) as file:
        _fill_obs(file, checks, rows, put)
        for name, field in (("action", "actions"), ("reward", "rewards")):
            for start, values in chunks(file, checks, field):
                part = slice(start, start + len(values))
                known = rows.known[part]
                put(name, rows.target[part][known], values[known])
        put("discount", rows.target[rows.known], ~rows.terminal[rows.known])


def _fill_obs(file: h5py.File, checks: Checks, rows: Rows, put: Put) -> None:
    """Every row, and after an episode's last one its successor, where that is known."""
    final = rows.end[rows.known[rows.end]]
    field = "next_observations" if "next_observations" in file else "observations"
    for start, values in chunks(file, checks, "observations"):
        put("obs", rows.target[start : start + len(values)], values)
    for start, values in chunks(file, checks, field):
        inside = final[np.searchsorted(final, start) : np.searchsorted(final, start + len(values))]
        put("obs", rows.target[inside] + 1, values[inside - start])
