"""Minari's datasets on disk: an HDF5 group per episode, with T + 1 observations.

Read with h5py alone. Gymnasium's MuJoCo observations and all rewards are float64 there, and are
rounded. Actions are scaled from the bounds of the action space to [-1, 1].
"""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np

from jaxrl.data.episodes import Episode, Put, Source, fill_episodes
from jaxrl.data.sources.checks import Checks, existing, spec_of
from jaxrl.data.sources.d4rl_hdf5 import check_arrays, opened
from jaxrl.types import PyTree

REQUIRED = ("observations", "actions", "rewards", "terminations", "truncations")


def open_source(name: str, repair: frozenset[str] = frozenset()) -> Source:
    """The episodes of a dataset: a directory, or a name under `$MINARI_DATASETS_PATH`.

    Raises:
      UserError: it does not exist, is kept as Arrow, is truncated, lacks a field, or a field has
        another shape or type than it should; an episode has no end or no transition.
    """
    path = existing(_directory(name) / "data" / "main_data.hdf5", "a Minari dataset in HDF5")
    checks = Checks(str(path), repair, rounds=True)
    about = Checks(str(path.parent / "metadata.json"))
    metadata = _metadata(about)
    with opened(checks) as file:
        names = _names(file, checks)
        first = file[names[0]]
        lengths = np.array([_length(file[group], first, checks, group) for group in names])
        arrays = {"observations": _tree(first["observations"])}, {"actions": first["actions"]}
        with about.reading("action_space"):
            space = json.loads(metadata.get("action_space") or "{}")
            scale = _scale(about, space, first["actions"].shape[1:])
        spec = spec_of(checks, *arrays, space.get("n"))
    fill = partial(_fill, checks, names, scale)
    return Source(str(path), spec, lengths, fill, metadata)


def _directory(name: str) -> Path:
    path = Path(name).expanduser()
    if (path / "data").is_dir():
        return path
    root = os.environ.get("MINARI_DATASETS_PATH", "~/.minari/datasets")
    directory = Path(root).expanduser() / name
    return existing(directory, "a Minari dataset") if directory.parent.is_dir() else directory


def _metadata(checks: Checks) -> dict[str, Any]:
    path = Path(checks.path)
    if not path.exists():
        return {}
    with checks.reading("JSON"):
        metadata = json.loads(path.read_text(encoding="utf-8"))
        found = metadata.get("data_format", "hdf5")
    if found != "hdf5":
        raise checks.error("data_format", f"found {found!r}, expected 'hdf5'; convert with minari")
    return metadata


def _names(file: h5py.File, checks: Checks) -> list[str]:
    """The groups of the episodes, in the order of their numbers."""
    if not len(file):
        raise checks.error("episode_0", "missing; the file has no episodes")
    for name, node in file.items():
        if not (name.rpartition("_")[2].isdecimal() and isinstance(node, h5py.Group)):
            raise checks.error(name, "expected nothing but groups episode_0, episode_1, ...")
    return sorted(file, key=lambda name: int(name.rpartition("_")[2]))


def _length(group: h5py.Group, first: h5py.Group, checks: Checks, name: str) -> int:
    """Transitions of an episode, if its end is right and its shapes are those of the first one."""
    checks.keys([f"{name}/{field}" for field in group], [f"{name}/{field}" for field in REQUIRED])
    arrays = {field: _tree(group[field]) for field in REQUIRED}
    check_arrays(checks, arrays, REQUIRED[1:], f"{name}/")
    shape = arrays["actions"].shape
    checks.actions_shape(f"{name}/actions", shape)
    n = shape[0]
    if n < 1:
        raise checks.error(f"{name}/actions", "the episode has no transition")
    checks.shape(f"{name}/actions", shape, (n, *first["actions"].shape[1:]))
    checks.dtype(f"{name}/actions", arrays["actions"].dtype)
    for field in REQUIRED[2:]:
        checks.shape(f"{name}/{field}", arrays[field].shape, (n,))
    with checks.reading(f"{name}/observations"):  # which are perhaps another tree
        pairs = jax.tree.map(lambda *x: x, arrays["observations"], _tree(first["observations"]))
    for leaf, like in jax.tree.leaves(pairs, is_leaf=lambda x: isinstance(x, tuple)):
        checks.shape(leaf.name.strip("/"), leaf.shape, (n + 1, *like.shape[1:]))
    with checks.reading(name):
        ended = [checks.ends(f"{name}/{field}", arrays[field][()]) for field in REQUIRED[3:]]
    checks.tail(f"{name}/truncations", any(ended), "the episode")
    return n


def _tree(node: h5py.Group | h5py.Dataset) -> PyTree:
    """A dict for each group, down to the arrays."""
    if isinstance(node, h5py.Dataset):
        return node
    return {key: _tree(child) for key, child in node.items()}


def _scale(
    checks: Checks, space: dict[str, Any], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Centre and half-width of a bounded action space; None where there is nothing to scale.

    Refuses a space of another shape than the actions'.
    """
    if space.get("type") != "Box":
        return None
    low, high = np.asarray(space["low"], float), np.asarray(space["high"], float)
    checks.shape("action_space", (high - low).shape, shape)
    if not np.isfinite(high - low).all() or ((low == -1) & (high == 1)).all():
        return None
    return (high + low) / 2, (high - low) / 2


def _fill(checks: Checks, names: list[str], scale: tuple | None, put: Put) -> None:
    with opened(checks) as file:
        fill_episodes(_episodes(file, checks, names, scale), put)


def _episodes(
    file: h5py.File, checks: Checks, names: list[str], scale: tuple | None
) -> Iterator[Episode]:
    for name in names:
        with checks.reading(name):
            group = {field: _tree(file[name][field]) for field in REQUIRED[:4]}
            group = jax.tree.map(lambda leaf: leaf[()], group)
        action = group["actions"]
        if scale is not None:
            action = (action - scale[0]) / scale[1]
        yield Episode(
            obs=jax.tree.map(
                partial(checks.numbers, f"{name}/observations"), group["observations"]
            ),
            action=checks.actions(f"{name}/actions", action),
            reward=checks.numbers(f"{name}/rewards", group["rewards"]),
            discount=~checks.flags(f"{name}/terminations", group["terminations"]),
        )
