"""The table of recorded runs in `docs/results.md`, from `benchmarks/results/*.json`.

    python -m benchmarks.results

Writes the page anew: no number in it is typed by hand.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import tyro

ROOT = Path(__file__).parents[1]
RECORDED, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "results.md"
HEAD = """# Recorded runs

Written by `python -m benchmarks.results` from `benchmarks/results/*.json`, which hold every report,
all settings, versions and hardware. Returns are those of the last report, one number per seed, of
{episodes} with the policy's mode, or with samples where a policy has none; beside them stands
D4RL's normalised score where its references (`jaxrl/data/d4rl.py`) know the task. Times include
compiling, and count for little: most machines were shared.

| agent | task | steps | return of each seed | minutes | command | commit | file |
|---|---|---|---|---|---|---|---|
"""
FOOT = """
Hardware: {hardware}.
"""


def runs(directory: Path) -> dict[str, dict[str, Any]]:
    """Recorded runs by the name of their file, in order of task and agent."""
    found = {path.name: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}
    kept = {name: run for name, run in found.items() if "final_return" in run}

    def order(item: tuple[str, dict]) -> tuple[str, str]:
        settings = item[1]["settings"]
        return settings.get("dataset", ""), settings["env"] + settings["algorithm"]

    return dict(sorted(kept.items(), key=order))


def row(name: str, run: dict[str, Any]) -> str:
    """A line of the table."""
    settings, start = run["settings"], run["starts"][-1]
    task = settings.get("dataset") or settings["env"]
    returns = ", ".join(f"{value:.4g}" for value in run["final_return"])
    if scores := run.get("normalized_score"):
        returns += f"; normalised {', '.join(f'{value:.1f}' for value in scores)}"
    unit = "updates" if "dataset" in settings else "steps"
    cells = [
        settings["algorithm"],
        task,
        f"{run['steps'][-1]:,} {unit}",
        returns,
        f"{run['seconds'] / 60:.1f}",
        f"`{shlex.join(start['command'])}`",
        start["commit"][:7] + ("+" if start["dirty"] else ""),
        f"`{name}`",
    ]
    return f"| {' | '.join(cells)} |\n"


def page(directory: Path = RECORDED) -> str:
    """The whole page."""
    found = runs(directory)
    episodes = sorted({run["settings"]["episodes"] for run in found.values()})
    machines = {
        f"{start['cores']} usable cores, {start['devices']['count']} {start['devices']['kind']} "
        f"device, jax {start['versions']['jax']}"
        for run in found.values()
        for start in run["starts"]
    }
    head = HEAD.format(episodes=f"{min(episodes)} to {max(episodes)} episodes")
    table = "".join(row(name, run) for name, run in found.items())
    return head + table + FOOT.format(hardware="; ".join(sorted(machines)))


def main() -> None:
    """Write the table of recorded runs into the documentation."""
    PAGE.write_text(page())
    count = len(runs(RECORDED))
    print(f"{PAGE.relative_to(ROOT)}: {count} runs")


if __name__ == "__main__":
    tyro.cli(main)
