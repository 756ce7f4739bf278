"""`config.json`: what a run was asked to do, what it ran on, and whether another may go on with it.

The settings stand at the top level as they were given; `starts` has one entry for the first start
and one for each resume: the step, package versions, devices, usable cores, commit, command line.
"""

import dataclasses
import enum
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import paths
from jaxrl.errors import UserError

# Settings that do not decide the numbers: a resumed run may change them.
FREE = ("out", "steps", "mesh", "writers", "video", "stop_at_return", "starts")
PACKAGES = (
    *("jaxrl", "jax", "jaxlib", "libtpu", "numpy", "flax", "optax", "orbax-checkpoint", "chex"),
    *("gymnax", "gymnasium", "mujoco", "mujoco-mjx", "brax", "playground", "gym-pusht"),
    *("minari", "ogbench", "tensorflow-datasets", "array-record", "grain"),
)
_NOTHING = object()  # unlike any setting, None included


def plain(value: Any) -> Any:
    """What JSON can hold: dataclasses and named tuples by field, arrays as lists.

    Infinities and NaN become the strings "inf", "-inf" and "nan", which `float` reads back;
    functions and types become their names; whatever else, its `str`.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if (fields := _fields(value)) is not None:
        return {str(name): plain(item) for name, item in fields.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return plain(_numbers(value))
    if isinstance(value, enum.Enum):
        return value.name
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if name else str(value)


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """The fields of a dataclass, a named tuple or a mapping; None for everything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return value._asdict()
    return value if isinstance(value, Mapping) else None


def _numbers(value: Any) -> Any:
    array = np.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating):  # numpy's own test does not know bfloat16
        array = array.astype(np.float64)
    return array.tolist()


def start(step: int) -> dict[str, Any]:
    """What a run that starts at `step` runs on: an entry of `starts`."""
    device = jax.devices()[0]
    return {
        "step": step,
        "python": platform.python_version(),
        "versions": _versions(),
        "devices": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "cores": usable_cores(),
        **_checkout(),
        "command": list(sys.argv),
    }


def usable_cores() -> int:
    """Cores that this process may run on; on CPU the last bits of a run depend on it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _checkout() -> dict[str, Any]:
    """Commit of the project, and whether tracked files differ from it, if this is a checkout."""
    root = Path(__file__).resolve().parents[1]
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return {"commit": None, "dirty": None}
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": _git(root, "rev-parse", "HEAD"), "dirty": bool(changes)}


def _git(root: Path, *args: str) -> str | None:
    command = ["git", "-C", str(root), *args]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def read(directory: str | Path) -> dict[str, Any]:
    """The contents of `config.json` in a run's directory.

    Raises:
      UserError: it is missing, or is not a JSON object.
    """
    path = paths.of(directory) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected the directory of a run") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a run") from None
    except ValueError as error:  # cut short, or not text
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: found a {type(config).__name__}, expected a JSON object")
    return config


def write(directory: str | Path, config: Any, starts: Sequence[Mapping[str, Any]]) -> None:
    """Writes settings and starts as `config.json`, replacing it in one move."""
    text = json.dumps({**plain(config), "starts": plain(starts)}, indent=2, allow_nan=False)
    paths.replace(paths.of(directory) / "config.json", text + "\n")


def differences(found: Any, asked: Any, free: Sequence[str] = FREE) -> list[tuple[str, str, str]]:
    """Path, old and new value of each setting that differs (of dataclasses or mappings).

    `free` names the settings that may differ, by path: `"steps"`, or `"loop.report_every"`;
    a group's name frees all that it holds.
    """
    old, new = dict(_leaves(plain(found))), dict(_leaves(plain(asked)))
    return [
        (path, _show(old, path), _show(new, path))
        for path in {**old, **new}
        if old.get(path, _NOTHING) != new.get(path, _NOTHING) and not _inside(path, free)
    ]


def check(directory: str | Path, config: Any, free: Sequence[str] = FREE) -> None:
    """Refuses to continue a run under settings that would change its numbers.

    Nothing is checked where the directory holds no run yet.

    Raises:
      UserError: naming each setting that differs, or the file that cannot be read.
    """
    path = paths.of(directory) / "config.json"
    if not path.exists():
        return
    if differing := differences(read(directory), config, (*free, "starts")):
        sentences = [f"{name}: found {a} in {path}, asked for {b}" for name, a, b in differing]
        raise UserError("; ".join([*sentences, "choose another --out for a new run"]))


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if path and (not isinstance(tree, dict) or not tree):
        yield path, tree
        return
    for name, item in tree.items():
        yield from _leaves(item, f"{path}.{name}" if path else str(name))


def _inside(path: str, groups: Sequence[str]) -> bool:
    return any(path == group or path.startswith(f"{group}.") for group in groups)


def _show(leaves: dict[str, Any], path: str) -> str:
    return json.dumps(leaves[path]) if path in leaves else "nothing"
