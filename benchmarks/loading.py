"""What loading takes: peak memory and seconds for a million transitions of HalfCheetah's shape.

    python -m benchmarks.loading --json benchmarks/results/loading.json

Each format is written with random numbers, read in a process of its own, and deleted. Memory is
counted above what the process held before, when its libraries were imported and a small dataset had
been read, and is stated in units of the dataset's arrays. JAX copies them from the host, so with
the copy it is 2 at least.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks import machine
from jaxrl import experiment
from jaxrl.data.episodes import Episode
from jaxrl.data.sources import rlds
from jaxrl.errors import check_range
from tests.data import synthetic  # who knows how each format is written

LENGTH, OBS, ACTION = 1000, 17, 6  # of HalfCheetah's episodes
SMALL = 8  # episodes read before the count begins
KINDS = ("d4rl", "ogbench", "minari", "local")
READ = """
import json, re, sys, time, jax, psutil
from jaxrl.data import sources
sources.load(sys.argv[2], 8)  # readers imported, allocators warm
sources.load("jaxrl/pendulum-mixed-v0", 8)
before, begin = psutil.Process().memory_info().rss, time.perf_counter()
dataset = jax.block_until_ready(sources.load(sys.argv[1], 8))
seconds = time.perf_counter() - begin
status = open("/proc/self/status").read()  # `ru_maxrss` would count the process that forked
peak = int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024
arrays = sum(x.nbytes for x in jax.tree.leaves(dataset))
found = {"transitions": dataset.size, "bytes": arrays, "peak_above": peak - before}
print(json.dumps(found | {"ratio": (peak - before) / arrays, "seconds": seconds}))
"""


@dataclass(frozen=True)
class Config:
    """Flags."""

    kinds: tuple[Literal["d4rl", "ogbench", "minari", "local"], ...] = KINDS
    transitions: int = 1_000_000
    json: Path | None = None  # where results go


def episodes(count: int) -> Iterator[Episode]:
    """Episodes of random numbers."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        obs = rng.standard_normal((LENGTH + 1, OBS), np.float32)
        action = rng.uniform(-1, 1, (LENGTH, ACTION)).astype(np.float32)
        yield Episode(obs, action, obs[1:, 0], np.ones(LENGTH, np.float32))


def write(kind: str, directory: Path, count: int) -> str:
    """Write so many episodes in a format; the name to load them by."""
    directory.mkdir(parents=True)
    if kind == "local":
        return f"local/{rlds.write(directory / 'x', episodes(count), {})}"
    data = list(episodes(count))
    if kind == "d4rl":
        return f"d4rl/{synthetic.write_hdf5(directory / 'x.hdf5', synthetic.flat(data))}"
    if kind == "ogbench":
        return f"ogbench/{synthetic.write_npz(directory / 'x.npz', synthetic.rows(data))}"
    return f"minari/{synthetic.write_minari(directory / 'x', data)}"


def measure(kind: str, transitions: int) -> dict[str, Any]:
    """Bytes and seconds of one format."""
    with tempfile.TemporaryDirectory() as directory:
        large = write(kind, Path(directory) / "large", transitions // LENGTH)
        small = write(kind, Path(directory) / "small", SMALL)
        command = [sys.executable, "-c", READ, large, small]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main(config: Config) -> None:
    """Measure, print, and write what was found."""
    check_range("transitions", config.transitions, SMALL * LENGTH)
    found = {}
    for kind in config.kinds:
        found[kind] = measure(kind, config.transitions)
        print(f"{kind}: {found[kind]['ratio']:.2f} times {found[kind]['bytes']:,} bytes")
    machine.write(config.json, machine.about("benchmarks.loading") | {"formats": found})


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(Config, description=__doc__)))
