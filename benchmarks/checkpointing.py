"""What saving costs a loop: SAC on Gymnasium's HalfCheetah-v5 with a full replay of a million.

    python -m benchmarks.checkpointing --json benchmarks/results/checkpointing_sac.json

Plays chunks of steps, some of them while a save goes on behind, and counts the time beyond what as
many chunks take undisturbed. The share is of the default interval between two saves.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

from benchmarks import machine
from benchmarks.cases import CASES, transitions
from jaxrl import checkpoint, experiment
from jaxrl.envs import HostEnv
from jaxrl.errors import check_range
from jaxrl.loops import host, off_policy

INTERVAL = experiment.Config.checkpoint_every


@dataclass(frozen=True)
class Config:
    """Flags."""

    capacity: int = 1_000_000  # transitions in replay, all of them there
    saves: int = 5
    seconds: float = 15.0  # before and after each save; after, long enough for it to end
    chunk: int = 50  # environment steps between looks at the clock
    json: Path | None = None  # where results go


class Player:
    """A loop with a full replay, played in chunks."""

    def __init__(self, config: Config):
        case, env = CASES["sac"], HostEnv("HalfCheetah-v5")
        agent = case.module.make(env.spec, case.config)
        loop = host.make(agent, env, off_policy.Config(capacity=config.capacity, warmup=256))
        self.keys, self.chunk, self.advance = jax.random.key(0)[None], config.chunk, loop.advance
        self.runs, _ = loop.advance(loop.begin(self.keys), self.keys, 512)
        full = transitions(jax.random.key(1), 1, config.capacity, 1)
        self.runs = tuple(run._replace(replay=full) for run in self.runs)

    def play(self, seconds: float) -> list[float]:
        """Seconds that each chunk took."""
        begin, times = time.perf_counter(), [time.perf_counter()]
        while times[-1] - begin < seconds:
            self.runs, _ = self.advance(self.runs, self.keys, self.chunk)
            times.append(time.perf_counter())
        return [b - a for a, b in zip(times, times[1:], strict=False)]


def lost(player: Player, save: Callable[[int], None], number: int, seconds: float) -> float:
    """Seconds that a save takes from the loop, its own call included."""
    calm = statistics.median(player.play(seconds))
    begin = time.perf_counter()
    save(number)
    called = time.perf_counter() - begin
    return called + sum(spent - calm for spent in player.play(seconds))


def measure(config: Config) -> dict[str, Any]:
    """The seconds that every save cost, and their median's share of the interval."""
    player = Player(config)
    with tempfile.TemporaryDirectory() as directory:
        saved = checkpoint.Checkpoints(directory)

        def save(number: int) -> None:
            if not saved.save(number, player.runs):
                raise SystemExit("a save failed")

        seconds = [lost(player, save, i, config.seconds) for i in range(config.saves)]
        if not saved.wait():
            raise SystemExit("the last save failed")
        with saved:
            files = [path for path in Path(directory).rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
    share = statistics.median(seconds) / INTERVAL
    found = {"capacity": config.capacity, "bytes_on_disk": size, "seconds_lost": seconds}
    return found | {"interval": INTERVAL, "share_of_interval": share}


def main(config: Config) -> None:
    """Measure, print, and write what was found."""
    for name in ("capacity", "saves", "seconds", "chunk"):
        check_range(name, getattr(config, name), 1)
    found = measure(config)
    print(f"{found['seconds_lost']} s, {found['share_of_interval']:.2%} of {INTERVAL} s")
    machine.write(config.json, machine.about("benchmarks.checkpointing") | found)


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(Config, description=__doc__)))
