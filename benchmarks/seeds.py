"""Eight seeds as one run, against eight times one run: what several seeds cost.

    python -m benchmarks.seeds --json benchmarks/results/seeds.json

The offline loops of IQL and CQL at the shapes of HalfCheetah, seeds in turn (`map`) and in one
program (`vmap`), in interleaved windows of one process. A cost of 1 is that of as many single runs,
whose compiling and loading would come on top.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import tyro

from benchmarks import loading, machine, timing
from benchmarks.cases import BATCH, CASES, SPEC
from jaxrl import experiment, loops
from jaxrl.data.episodes import from_episodes
from jaxrl.errors import check_range
from jaxrl.loops import Loop, offline

WAYS = ("map", "vmap")


@dataclass(frozen=True)
class Config:
    """Flags."""

    agents: tuple[str, ...] = ("iql", "cql")
    seeds: int = 8
    seconds: float = 5.0  # length of a window
    episodes: int = 100  # of the dataset
    json: Path | None = None  # where results go


def window(loop: Loop, keys: jax.Array, updates: int, seconds: float) -> timing.Window:
    """Plays a loop; updates per second, of all seeds together."""
    newest = [loop.begin(jax.random.clone(keys))]

    def play() -> Any:
        newest[0], metrics = loop.advance(newest[0], jax.random.clone(keys), updates)
        return metrics

    return partial(timing.window, play, updates * keys.size, seconds)


def contestants(name: str, config: Config) -> dict[str, timing.Window]:
    """One run of an agent, and as many seeds as asked for in each way."""
    case = CASES[name]
    dataset = from_episodes(list(loading.episodes(config.episodes)), blocks=8)
    agent = case.module.make(SPEC, case.config)
    one = offline.make(agent, dataset, offline.Config(batch_size=BATCH))
    keys = jax.random.split(jax.random.key(0), config.seeds)
    many = {f"{name}, {how}": loops.seeds(one, config.seeds, how) for how in WAYS}
    windows = {
        title: window(loop, keys, case.length, config.seconds) for title, loop in many.items()
    }
    return {name: window(one, keys[0], case.length, config.seconds)} | windows


def costs(medians: dict[str, float], agents: Sequence[str]) -> dict[str, float]:
    """What a seed's update costs among many, in units of its cost alone."""
    return {
        f"{name}, {how}": medians[name] / medians[f"{name}, {how}"]
        for name in agents
        for how in WAYS
    }


def measure(config: Config) -> dict[str, Any]:
    """Rates of all, and costs."""
    windows: dict[str, Callable[[], float]] = {}
    for name in config.agents:
        windows |= contestants(name, config)
    raw = timing.interleaved(windows)
    medians = timing.medians(raw)
    found = {"seeds": config.seeds, "unit": "updates/s of all seeds together", "windows": raw}
    return found | {"medians": medians, "cost": costs(medians, config.agents)}


def main(config: Config) -> None:
    """Measure, print, and write what was found."""
    check_range("seeds", config.seeds, 2)
    found = measure(config)
    for title, cost in found["cost"].items():
        print(f"{title}: a seed among {config.seeds} costs {cost:.3f} times one alone")
    machine.write(config.json, machine.about("benchmarks.seeds") | found)


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(Config, description=__doc__)))
