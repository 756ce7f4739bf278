"""OGBench's npz files (Park et al., 2024; arXiv:2410.20092): T + 1 rows per trajectory.

`terminals` marks the last row of a trajectory, which is not the end of the MDP. Where the file has
`masks`, they are the discounts; otherwise these are 1 throughout. Data without `rewards`, meant
for goals chosen later, has zeros. Arrays are read from the archive by chunk.
"""

import os
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrl.data.episodes import Put, Source
from jaxrl.data.sources.checks import CHUNK, Checks, existing, spec_of

FIELDS = {"action": "actions", "reward": "rewards", "discount": "masks"}


class Header(NamedTuple):
    """What an archive says about one of its arrays."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


def open_source(name: str, repair: frozenset[str] = frozenset()) -> Source:
    """The trajectories of a file: a path, or a name under `~/.ogbench/data`.

    Raises:
      UserError: the file does not exist, is truncated, lacks a field, or a field has another shape
        or type than it should; a trajectory has no end or no transition.
    """
    path = existing(find(name), "an OGBench npz file")
    checks = Checks(str(path), repair)
    with checks.reading("npz file"), zipfile.ZipFile(path) as archive:
        headers = dict(_headers(archive))
    last = _last(checks, headers)
    lengths = np.diff(np.flatnonzero(last), prepend=-1) - 1
    if not lengths.all():
        row = int(np.flatnonzero(last)[np.argmin(lengths)])
        raise checks.error("terminals", f"the trajectory that ends at row {row} has no transition")
    spec = spec_of(
        checks, {"observations": headers["observations"]}, {"actions": headers["actions"]}
    )
    fill = partial(_fill, checks, headers, last)
    return Source(str(path), spec, lengths, fill, {"dataset": path.stem})


def find(name: str) -> Path:
    """Where a dataset of this name is kept."""
    path = Path(name).expanduser()
    home = Path(os.environ.get("OGBENCH_DATA_DIR", "~/.ogbench/data")).expanduser()
    if path.exists() or path.suffix == ".npz" and path.parent != Path("."):
        return path
    return home / (name if name.endswith(".npz") else f"{name}.npz")


def _last(checks: Checks, headers: dict[str, Header]) -> np.ndarray:
    """Whether each row ends a trajectory. [N] bool"""
    checks.keys(headers, ("observations", "actions", "terminals"))
    n = (*headers["observations"].shape, 0)[0]
    if n < 1:
        raise checks.error("observations", "found no rows")
    checks.actions_shape("actions", headers["actions"].shape, n)
    for field in ("terminals", "rewards", "masks"):
        if field in headers:
            checks.shape(field, headers[field].shape, (n,))
    flags = partial(checks.flags, "terminals")
    last = np.concatenate([flags(x, row) for row, x in chunks(checks, headers, "terminals")])
    checks.tail("terminals", bool(last[-1]), f"the trajectory up to row {n - 1}")
    last[-1] = True
    return last


def _headers(archive: zipfile.ZipFile) -> Iterator[tuple[str, Header]]:
    for name in archive.namelist():
        with archive.open(name) as file:
            yield name.removesuffix(".npy"), _read_header(file)


def _read_header(file) -> Header:
    version = np.lib.format.read_magic(file)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    return Header(*read[version[0]](file))


def chunks(
    checks: Checks, headers: dict[str, Header], field: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Consecutive rows of an array, each with the number of the first."""
    shape, fortran, dtype = headers[field]
    if fortran and len(shape) > 1:
        raise checks.error(field, "found columns first, expected rows first")
    row = int(np.prod(shape[1:], dtype=int)) * dtype.itemsize
    with (
        checks.reading(field),
        zipfile.ZipFile(checks.path) as archive,
        archive.open(f"{field}.npy") as file,
    ):
        _read_header(file)
        for start in range(0, shape[0], CHUNK):
            n = min(CHUNK, shape[0] - start)
            yield start, np.frombuffer(file.read(n * row), dtype).reshape(n, *shape[1:])


def _fill(checks: Checks, headers: dict[str, Header], last: np.ndarray, put: Put) -> None:
    for start, values in chunks(checks, headers, "observations"):
        rows = slice(start, start + len(values))
        put("obs", rows, checks.numbers("observations", values, start))
    for name, field in FIELDS.items():
        if field in headers:
            _fill_scalars(checks, headers, last, name, put)
    if "masks" not in headers:
        put("discount", np.flatnonzero(~last), np.float32(1))


def _fill_scalars(
    checks: Checks, headers: dict[str, Header], last: np.ndarray, name: str, put: Put
) -> None:
    """Actions, rewards or masks of every row that is a transition."""
    take = {"action": checks.actions, "reward": checks.numbers, "discount": checks.flags}[name]
    for start, values in chunks(checks, headers, FIELDS[name]):
        going = ~last[start : start + len(values)]
        rows = start + np.flatnonzero(going)
        put(name, rows, take(FIELDS[name], values[going], rows))
