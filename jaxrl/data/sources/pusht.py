"""The published demonstrations of Push-T (Chi et al., 2023): a zarr store, or a zip that holds one.

`pusht_cchi_v7_replay.zarr` has a row per step: `data/state` `[N, 5]`, positions of the agent and of
the block in pixels and the block's angle; `data/action` `[N, 2]`, where the agent is to go, from
[0, 512] to [-1, 1] here; `meta/episode_ends` `[E]`, the row after each episode's last. Nobody knows
where an episode's last action led, so it is dropped. There are no rewards: they are zeros.

The paper's low-dimensional policies read `data/keypoint`, nine points and the agent's position: 20
numbers. gym-pusht does not observe those points, so the state is read instead.
"""

import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.data.episodes import Put, Source
from jaxrl.data.sources.checks import Checks, existing, spec_of
from jaxrl.errors import require

ENV = "gymnasium/gym_pusht/PushT-v0?return=best"  # scored by the best of an episode, as published
STATE, ACTION, ENDS = "data/state", "data/action", "meta/episode_ends"
SIZE = 512.0  # of the arena


def open_source(name: str, repair: frozenset[str] = frozenset()) -> Source:
    """The demonstrations in a directory or a zip.

    Raises:
      UserError: it does not exist or is no zarr store, lacks an array, or one has another shape or
        type than it should; an episode has no transition, or ends where there are no rows.
    """
    path = existing(Path(name).expanduser(), "a zarr store or a zip with one")
    checks = Checks(str(path), repair, rounds=True)
    arrays = _arrays(checks, path)
    ends = _ends(checks, arrays)
    spec = spec_of(checks, {STATE: arrays[STATE]}, {ACTION: arrays[ACTION]})
    lengths = np.diff(ends, prepend=0) - 1
    metadata = {"dataset": path.stem, "env": ENV}
    return Source(str(path), spec, lengths, partial(_fill, checks, arrays, ends), metadata)


def _arrays(checks: Checks, path: Path) -> dict[str, Any]:
    """The arrays of a store by name, not yet read."""
    zarr = require("zarr", "pusht", f"dataset {path}")
    with checks.reading("zarr store"):
        store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else path
        root = zarr.open_group(store, mode="r", path=_root(path))
        arrays = {name: x for name, x in root.members(max_depth=None) if hasattr(x, "dtype")}
    checks.keys(arrays, (STATE, ACTION, ENDS))
    return arrays


def _root(path: Path) -> str:
    """Where in a zip the store is: at its top, or in a directory."""
    if path.is_dir():
        return ""
    with zipfile.ZipFile(path) as archive:
        found = [name for name in archive.namelist() if f"{ENDS}/" in name]
    return found[0].partition(ENDS)[0].rstrip("/") if found else ""


def _ends(checks: Checks, arrays: dict[str, Any]) -> np.ndarray:
    """The row after each episode's last, once shapes and ends have been found right. [E]"""
    rows = (*arrays[STATE].shape, 0)[0]
    checks.shape(STATE, arrays[STATE].shape, (rows, 5))
    checks.shape(ACTION, arrays[ACTION].shape, (rows, 2))
    checks.shape(ENDS, arrays[ENDS].shape, (None,))
    with checks.reading(ENDS):
        ends = np.asarray(arrays[ENDS][:], np.int64)
    if not len(ends) or ends[-1] != rows:
        raise checks.error(ENDS, f"found ends {ends[-1:]}, expected {rows}, the rows of {STATE}")
    lengths = np.diff(ends, prepend=0)
    if lengths.min() < 2:
        episode = int(np.argmin(lengths))
        raise checks.error(ENDS, f"episode {episode} has {lengths[episode]} rows, expected 2")
    return ends


def _fill(checks: Checks, arrays: dict[str, Any], ends: np.ndarray, put: Put) -> None:
    with checks.reading(STATE):
        state = arrays[STATE][:]
    with checks.reading(ACTION):
        action = arrays[ACTION][:]
    put("obs", np.arange(len(state)), checks.numbers(STATE, state))
    acted = np.delete(np.arange(len(state)), ends - 1)
    put("action", acted, checks.actions(ACTION, action[acted] / (SIZE / 2) - 1, acted))
    put("discount", acted, np.float32(1))
