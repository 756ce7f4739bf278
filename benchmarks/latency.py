"""Milliseconds from an observation to an action, of policies that a control loop has to wait for.

    python -m benchmarks.latency --json benchmarks/results/latency.json

A call is one compiled program: the policy's memory, and for Diffusion Policy the whole chain that
draws a chunk, which is then played for eight steps without another. Contestants play five windows
in turn, the first is discarded, and medians are compared; shares are of the ceiling that
`benchmarks.throughput` measures.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro

from benchmarks import flops, machine, timing
from benchmarks.cases import SPEC
from jaxrl import experiment, policies
from jaxrl.agents import decision_transformer, diffusion_policy
from jaxrl.errors import check_range
from jaxrl.types import Agent, Policy


class Case(NamedTuple):
    """A policy, how many environments it acts for in one call, and what it is compared with."""

    module: ModuleType
    config: Any
    envs: int = 1
    beside: str = ""


DT = decision_transformer.Config()
DIFFUSION = diffusion_policy.Config
CASES = {
    "decision_transformer": Case(decision_transformer, DT),
    "decision_transformer_1024": Case(decision_transformer, DT, 1024, "decision_transformer"),
    "diffusion_ddim_10": Case(diffusion_policy, DIFFUSION(sampler="ddim", sample_steps=10)),
    "diffusion_flow_4": Case(
        diffusion_policy,
        DIFFUSION(objective="flow", sample_steps=4),
        beside="diffusion_ddim_10",
    ),
}


@dataclass(frozen=True)
class Config:
    """Flags."""

    json: Path | None = None  # where results go
    seconds: float = 2.0  # length of a window


class Program(NamedTuple):
    """A compiled call, played over and over."""

    window: timing.Window
    flops: float  # of a call


def policy_of(case: Case, agent: Agent) -> Policy:
    """How the agent acts."""
    if case.module is decision_transformer:
        return policies.windowed(agent, SPEC, case.config.context, 0.0)
    return policies.own(agent, case.module, SPEC, case.config)


def call(case: Case) -> tuple[Callable, tuple]:
    """What is compiled, and its arguments: all episodes begin, so that a chunk is due."""
    agent = case.module.make(SPEC, case.config)
    policy, n = policy_of(case, agent), case.envs
    state = jax.jit(agent.init)(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (n, *SPEC.obs.shape))
    return policy.step, (state, policy.start(n), obs, jnp.zeros(n), jnp.zeros(n, bool))


def program(case: Case, seconds: float) -> Program:
    """The compiled call."""
    step, args = call(case)
    compiled = jax.jit(step).lower(*args).compile()
    window = partial(timing.window, lambda: compiled(*args)[1], 1, seconds)
    return Program(window, flops.count(step, *args))


def measure(cases: Mapping[str, Case], seconds: float) -> dict[str, Any]:
    """Milliseconds per call, shares of the ceiling, and ratios."""
    programs = {name: program(case, seconds) for name, case in cases.items()}
    windows = {name: p.window for name, p in programs.items()}
    raw = timing.interleaved({"ceiling": timing.ceiling(seconds / 2)} | windows)
    rates, best = timing.medians(raw), max(raw["ceiling"])
    milliseconds = {name: 1e3 / rates[name] for name in cases}
    return {
        "unit": "calls/s, the ceiling in FLOP/s",
        "windows": raw,
        "milliseconds": milliseconds,
        "flops": {name: p.flops for name, p in programs.items()},
        "share_of_ceiling": {name: rates[name] * p.flops / best for name, p in programs.items()},
        "ratios": {
            f"{name} / {case.beside}": milliseconds[name] / milliseconds[case.beside]
            for name, case in cases.items()
            if case.beside in cases
        },
    }


def table(found: Mapping[str, Any]) -> str:
    """The measurements as lines to read."""
    lines = [
        f"{name:<26} {value:9.3f} ms, {found['share_of_ceiling'][name]:.3f} of the ceiling"
        for name, value in found["milliseconds"].items()
    ]
    return "\n".join(lines + [f"{name}: {ratio:.3f}" for name, ratio in found["ratios"].items()])


def main(config: Config) -> None:
    """Measure, print, and write what was found."""
    check_range("seconds", config.seconds, 1e-3)
    jax.config.update("jax_default_matmul_precision", "float32")
    here = machine.about("benchmarks.latency")
    found = measure(CASES, config.seconds)
    print(table(found))
    machine.write(config.json, here | machine.peaks() | found)


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(Config, description=__doc__)))
