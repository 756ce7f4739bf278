"""Metrics of two updates of every agent, kept as numbers: `python -m tests.golden.regenerate`.

Names after the command keep to these cases of `tests/agents/catalog.py`.
"""

import json
import sys
from pathlib import Path

import jax

from jaxrl.types import Agent
from tests.agents.catalog import CASES, Case

HERE = Path(__file__).parent


def path_of(case: Case) -> Path:
    """Where the case's numbers are kept."""
    return HERE / f"{case.name}.json"


def metrics_of(case: Case, agent: Agent) -> dict[str, float]:
    """Metrics of the first two updates, float32 on CPU; the second sees what the first changed."""
    state, found = agent.init(jax.random.key(1)), {}
    for i in (1, 2):
        state, metrics = agent.update(state, case.batch_of(i), jax.random.key(i))
        found |= {f"{name}/{i}": float(x) for name, x in sorted(metrics.items())}
    return found


def read(path: Path) -> dict[str, float]:
    """The numbers kept at `path`."""
    return json.loads(path.read_text())


def main(names: list[str]) -> None:
    """Rewrite the files of these cases, or of all."""
    jax.config.update("jax_platforms", "cpu")
    for case in [case for case in CASES if case.name in names or not names]:
        agent = Agent(*map(jax.jit, case.make()))
        path_of(case).write_text(json.dumps(metrics_of(case, agent), indent=1) + "\n")
        print(f"wrote {path_of(case).name}")


if __name__ == "__main__":
    main(sys.argv[1:])
