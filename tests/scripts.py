"""Running the experiment scripts as a user does, here or in processes of their own."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxrl import launch

ROOT = Path(__file__).resolve().parents[1]


LIMITED = ("bash", "-c", 'ulimit -f "$0" && exec "$@"')  # no file may grow beyond so many KiB


def play(script: str, *flags: object, trains: bool = True) -> None:
    """Run `experiments/SCRIPT.py` in this process, on one device where it trains."""
    mesh = ("--mesh.data", "1") if trains else ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{script}.py", *mesh, *map(str, flags)])
        runpy.run_path(str(ROOT / "experiments" / f"{script}.py"), run_name="__main__")


def host_devices(count: int) -> str:
    """XLA's flag for so many devices on a CPU."""
    return f"{launch.DEVICES}={count}"


def environment(devices: int) -> dict[str, str]:
    """The variables of a process with so many host devices."""
    flags = host_devices(devices)
    return dict(os.environ, JAX_PLATFORMS="cpu", PYTHONUNBUFFERED="1", XLA_FLAGS=flags)


def start(script: str, *flags: object, kib: int = 0, devices: int = 1) -> subprocess.Popen:
    """Start `experiments/SCRIPT.py` with a fixed number of host devices."""
    command = [sys.executable, str(ROOT / "experiments" / f"{script}.py"), *map(str, flags)]
    return subprocess.Popen(
        [*LIMITED, str(kib), *command] if kib else command,
        cwd=ROOT,
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, timeout: float = 400) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def run(script: str, *flags: object, status: int = 0, **options) -> tuple[str, str]:
    """Run a script to its end, which must have the given exit status; stdout and stderr."""
    code, out, err = finish(start(script, *flags, **options))
    assert code == status, f"exit {code}, expected {status}\n{out[-2000:]}\n{err[-4000:]}"
    return out, err


def metrics(directory: Path) -> list[dict]:
    """The records of a run, without a last line that is being written."""
    path = directory / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def wait_for(process: subprocess.Popen, directory: Path, reports: int, timeout: float = 200):
    """Wait until a running script has made so many reports."""
    end = time.monotonic() + timeout
    while len(metrics(directory)) < reports:
        assert process.poll() is None, f"ended early: {process.communicate()}"
        assert time.monotonic() < end, "no progress"
        time.sleep(0.01)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def arrays(directory: Path, name: str = "checkpoints") -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, by path."""
    with ocp.CheckpointManager(directory / name, item_names=("state", "rest")) as saved:
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        restore = ocp.args.StandardRestore(fallback_sharding=here)
        args = dict.fromkeys(("state", "rest"), restore)
        tree = saved.restore(saved.latest_step(), args=ocp.args.Composite(**args))
    leaves, _ = jax.tree_util.tree_flatten_with_path({k: tree[k] for k in args})
    return {jax.tree_util.keystr(path): _plain(x) for path, x in leaves}


def _plain(x) -> np.ndarray:
    if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x)


def assert_same_run(a: Path, b: Path) -> None:
    """Two runs ended with the same bits in every array, and reported the same numbers."""
    first, second = arrays(a), arrays(b)
    assert first.keys() == second.keys() and len(first) > 20
    for name, x in first.items():
        np.testing.assert_array_equal(x, second[name], err_msg=name)
    timeless = ("seconds", "updates_per_second", "compile_seconds")
    rows = [[{k: v for k, v in r.items() if k not in timeless} for r in metrics(d)] for d in (a, b)]
    assert rows[0] == rows[1]
