"""Learning from a dataset that is streamed in pools, beside the same in memory.

    python -m benchmarks.streaming --json benchmarks/results/streaming.json

IQL and BC on a million transitions of HalfCheetah's shape in ArrayRecord files, in interleaved
windows of one process; the windows of the stream hold what reading costs.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

from benchmarks import loading, machine, seeds, timing
from benchmarks.cases import BATCH, CASES, SPEC
from jaxrl import experiment, loops
from jaxrl.data import sources
from jaxrl.data.episodes import assemble
from jaxrl.data.pools import Pools
from jaxrl.loops import offline, streaming


@dataclass(frozen=True)
class Config:
    """Flags."""

    agents: tuple[str, ...] = ("iql", "bc")
    transitions: int = 1_000_000
    stream: int = 64_000  # transitions of a pool, which last for 200 updates
    seconds: float = 10.0  # length of a window: several pools
    json: Path | None = None  # where results go


def contestants(name: str, source: Any, config: Config) -> dict[str, timing.Window]:
    """An agent's run on the dataset in memory, and streamed."""
    agent, sizes = CASES[name].module.make(SPEC, CASES[name].config), offline.Config(BATCH)
    pools, keys = Pools(source, config.stream, blocks=8), jax.random.key(0)[None]
    whole = loops.seeds(offline.make(agent, assemble(source, 8), sizes), 1, "map")
    streamed = streaming.make(agent, pools, sizes, how="map")
    length = streaming.updates(pools.size, BATCH)
    return {
        f"{name}, memory": seeds.window(whole, keys, length, config.seconds),
        f"{name}, stream": seeds.window(streamed, keys, length, config.seconds),
    }


def measure(config: Config) -> dict[str, Any]:
    """Rates, and the share of the rate in memory that streaming reaches."""
    with tempfile.TemporaryDirectory() as directory:
        count = config.transitions // loading.LENGTH
        source = sources.find(loading.write("local", Path(directory) / "x", count))
        windows: dict[str, timing.Window] = {}
        for name in config.agents:
            windows |= contestants(name, source, config)
        raw = timing.interleaved(windows)
    rates = timing.medians(raw)
    share = {name: rates[f"{name}, stream"] / rates[f"{name}, memory"] for name in config.agents}
    sizes = {"transitions": config.transitions, "stream": config.stream}
    return sizes | {"unit": "updates/s", "windows": raw, "medians": rates, "share": share}


def main(config: Config) -> None:
    """Measure, print, and write what was found."""
    found = measure(config)
    for name, share in found["share"].items():
        print(f"{name}: streaming reaches {share:.3f} of the rate in memory")
    machine.write(config.json, machine.about("benchmarks.streaming") | found)


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(Config, description=__doc__)))
