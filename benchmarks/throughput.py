"""Updates per second of every agent, as a share of what the machine can do and beside its peers.

    python -m benchmarks.throughput --agent sac --peers --json benchmarks/results/throughput.json

The ceiling is the best of seven windows of a chain of 256x256x256 float32 products in the same
process; the FLOPs of an update are counted on its jaxpr. Contestants play five windows in turn, the
first is discarded, and medians are compared. With `--peers` also end to end on HalfCheetah-v5.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

from benchmarks import machine, peer, programs, timing
from benchmarks.cases import CASES, SIMULATOR
from jaxrl import experiment
from jaxrl.errors import check_range, unknown_name

Processes = Sequence[peer.Process]


@dataclass(frozen=True)
class Config:
    """Flags."""

    agent: str = "sac"  # or all
    peers: bool = False  # compare with the suites in benchmarks/peers
    json: Path | None = None  # where results go
    peers_dir: Path = Path("~/.cache/jaxrl/peers")  # their virtual environments, made if need be
    seconds: float = 2.0  # length of a window


def chosen(agent: str) -> list[str]:
    """Names of the cases to measure: with a case, the one whose cost it is compared with.

    Raises:
      UserError: there is no such agent.
    """
    if agent == "all":
        return list(CASES)
    if agent not in CASES:
        raise unknown_name("agent", agent, [*CASES, "all"])
    beside = CASES[agent].beside
    return [beside, agent] if beside else [agent]


def measure_updates(
    played: Mapping[str, programs.Program], peers: Processes, seconds: float
) -> dict[str, Any]:
    """Rates in the compiled loop, and shares of the ceiling."""
    ceiling = timing.ceiling(seconds / 2)
    windows = {"ceiling": ceiling} | {name: p.window for name, p in played.items()}
    for process in peers:
        windows |= process.windows("updates")
    raw = timing.interleaved(windows)
    raw["ceiling"] += [ceiling() for _ in range(timing.CEILING_WINDOWS - timing.ROUNDS)]
    medians = timing.medians(raw)
    medians["ceiling"] = best = max(raw["ceiling"])
    share = {name: medians[name] * p.flops / best for name, p in played.items()}
    unit = "updates/s, the ceiling in FLOP/s"
    return {"unit": unit, "windows": raw, "medians": medians, "share_of_ceiling": share}


def measure_environment(agents: list[str], peers: Processes, seconds: float) -> dict[str, Any]:
    """Rates end to end on Gymnasium's HalfCheetah-v5, an update per step."""
    windows = {name: programs.on_host(CASES[name], seconds) for name in agents}
    for process in peers:
        windows |= process.windows("environment")
    raw = timing.interleaved(windows)
    return {"unit": "environment steps/s", "windows": raw, "medians": timing.medians(raw)}


def measure_simulator(agents: list[str], peers: Processes, seconds: float) -> dict[str, Any]:
    """Rates end to end on a simulator on the device, and shares of what it leaves.

    The limit is what one could reach with the simulator at its own rate and all products at the
    ceiling: 1 / (1 / simulator + FLOPs per step / ceiling).
    """
    programs_ = {name: programs.on_simulator(CASES[name], seconds) for name in agents}
    windows = {name: window for name, (window, _, _) in programs_.items()}
    for process in peers:
        windows |= process.windows("simulator")
    windows |= {"simulator": next(iter(programs_.values()))[1], "ceiling": timing.ceiling(seconds)}
    raw = timing.interleaved(windows)
    medians = timing.medians(raw)
    work = {name: work for name, (_, _, work) in programs_.items()}
    limit = {
        name: 1 / (1 / medians["simulator"] + work[name] / medians["ceiling"]) for name in agents
    }
    share = {name: medians[name] / limit[name] for name in agents}
    unit = f"environment steps/s on {SIMULATOR}, the ceiling in FLOP/s"
    return {
        "unit": unit,
        "windows": raw,
        "medians": medians,
        "flops_per_step": work,
        "limit": limit,
        "share_of_limit": share,
    }


def ratios(medians: Mapping[str, float]) -> dict[str, float]:
    """Speed over a peer's, and cost over that of the case beside it, as far as both are there."""
    pairs = [(name, p.name) for name in CASES for p in peer.PEERS.get(name, ())]
    speed = {f"speed {a} / {b}": (a, b) for a, b in pairs}
    cost = {f"cost {a} / {c.beside}": (c.beside, a) for a, c in CASES.items()}
    return {
        text: medians[a] / medians[b]
        for text, (a, b) in (speed | cost).items()
        if a in medians and b in medians
    }


def open_peers(stack: ExitStack, agents: list[str], config: Config) -> list[peer.Process]:
    """The peers of `agents`, running, if they are asked for."""
    wanted = [p for name in agents for p in peer.PEERS.get(name, ())] if config.peers else []
    pythons = [peer.python_of(p, config.peers_dir) for p in wanted]
    started = [
        peer.Process(p, python, config.seconds) for p, python in zip(wanted, pythons, strict=True)
    ]
    return [stack.enter_context(process) for process in started]


def measure(config: Config) -> dict[str, Any]:
    """All that was asked for, with what it ran on."""
    agents = chosen(config.agent)
    with ExitStack() as stack:
        peers = open_peers(stack, agents, config)
        played = {name: programs.compiled(CASES[name], config.seconds) for name in agents}
        results = {"updates": measure_updates(played, peers, config.seconds)}
        online = [name for name in agents if CASES[name].host]
        if config.peers and online:
            results["environment"] = measure_environment(online, peers, config.seconds)
        simulated = [name for name in agents if CASES[name].simulated]
        if simulated:
            results["simulator"] = measure_simulator(simulated, peers, config.seconds)
        about = {process.peer.name: process.about for process in peers}
    for result in results.values():
        result["ratios"] = ratios(result["medians"])
    fields = ("flops", "compile_seconds", "bytes")
    facts = {name: {f: getattr(p, f) for f in fields} for name, p in played.items()}
    here = machine.about("benchmarks.throughput") | machine.peaks()
    return here | {"peers": about, "programs": facts, "results": results}


def table(found: Mapping[str, Any]) -> str:
    """The measurements as lines to read."""
    lines = [f"{found['processor']}, {found['cores']} cores, commit {found['commit']}"]
    for name, facts in found["programs"].items():
        lines.append(
            f"{name}: {facts['flops'] / 1e6:.1f} MFLOP per update, compiled in "
            f"{facts['compile_seconds']:.1f} s, {facts['bytes'] / 2**20:.0f} MiB"
        )
    for measure, result in found["results"].items():
        lines.append(f"{measure} ({result['unit']})")
        lines += [f"  {name:<12} {rate:.5g}" for name, rate in result["medians"].items()]
        shares = result.get("share_of_ceiling", {})
        lines += [f"  {name} reaches {share:.3f} of the ceiling" for name, share in shares.items()]
        shares = result.get("share_of_limit", {})
        lines += [f"  {name} reaches {share:.3f} of the limit" for name, share in shares.items()]
        lines += [f"  {name}: {ratio:.3f}" for name, ratio in result["ratios"].items()]
    return "\n".join([*lines, f"peak memory {found['peak_rss_bytes'] / 2**20:.0f} MiB"])


def main(config: Config) -> None:
    """Measure, print, and write what was found."""
    check_range("seconds", config.seconds, 1e-3)
    jax.config.update("jax_default_matmul_precision", "float32")
    found = measure(config)
    print(table(found))
    machine.write(config.json, found)


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(Config, description=__doc__)))
