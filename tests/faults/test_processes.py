"""Runs on several processes of this machine: the same numbers, one end, and going on elsewhere."""

import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from tests import scripts

pytestmark = pytest.mark.slow

COMMON = ("--num-seeds", 1, "--episodes", 2, "--blocks", 8)
SAC = (
    *("--steps", 96, "--loop.envs", 8, "--loop.report-every", 32, "--loop.warmup", 64),
    *("--loop.capacity", 640, "--loop.batch-size", 64, "--agent.hidden", 32, 32),
    *("--loop.updates-per-step", 0.25, "--agent.adam-eps", 1e-3),
)
PPO = (
    *("--steps", 256, "--loop.envs", 8, "--loop.steps", 16, "--loop.report-every", 128),
    *("--agent.epochs", 1, "--agent.minibatches", 2, "--agent.hidden", 16, 16),
)
DATA = ("--steps", 4, "--loop.report-every", 2, "--loop.batch-size", 16)
RUNS = {
    "sac": SAC,
    "ppo": PPO,
    "iql": (*DATA, "--agent.hidden", 16, 16),
    "decision_transformer": (*DATA, "--agent.width", 32, "--agent.layers", 2),
    "diffusion_policy": DATA,
}


# The second of several processes gets another discount than the first.
DISAGREE = 'case "$*" in *"processes.index 1"*) set -- "$@" --agent.gamma 0.5;; esac; exec "$@"'


def launched(script, *flags, processes=2, devices=2, around=()):
    """Start a script on several processes, each `around` the script's command."""
    start = (sys.executable, "-m", "jaxrl.launch", "--processes", processes, "--", *around)
    command = (*start, sys.executable, f"experiments/{script}.py", *COMMON, *flags)
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=scripts.ROOT,
        env=scripts.environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def second(launcher):
    """The process with index 1."""
    children = psutil.Process(launcher.pid).children()
    return next(c for c in children if "--processes.index 1" in " ".join(c.cmdline()))


def ended(process, status=0):
    """Output of a launcher that must end with this status."""
    code, out, err = scripts.finish(process)
    assert code == status, f"exit {code}, expected {status}\n{out[-3000:]}\n{err[-3000:]}"
    return out, err


def assert_close_runs(a, b, **tolerance):
    first, second = scripts.arrays(a), scripts.arrays(b)
    assert first.keys() == second.keys() and len(first) > 20
    for name, x in first.items():
        np.testing.assert_allclose(x, second[name], err_msg=name, **tolerance)
    for one, other in zip(scripts.metrics(a), scripts.metrics(b), strict=True):
        for name in set(one) - {"seconds", "updates_per_second", "compile_seconds"}:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("script", RUNS)
def test_two_processes_compute_what_one_does(script, tmp_path):
    ended(launched(script, *RUNS[script], "--out", tmp_path / "two"))
    scripts.run(script, *COMMON, *RUNS[script], "--out", tmp_path / "one", devices=4)
    assert_close_runs(tmp_path / "two", tmp_path / "one", rtol=1e-4, atol=1e-5)


def test_a_killed_process_ends_all_and_the_run_goes_on_with_four_on_another_mesh(tmp_path):
    flags = (*SAC, "--steps", 160, "--checkpoint-every", 0)
    scripts.run("sac", *COMMON, *flags, "--out", tmp_path / "whole", devices=4)
    process = launched("sac", *flags, "--out", tmp_path / "run")
    scripts.wait_for(process, tmp_path / "run", reports=2)
    second(process).kill()
    killed = time.monotonic()
    _, err = ended(process, status=137)
    assert time.monotonic() - killed < 30
    assert err.splitlines()[-1] == "process 1 was ended by SIGKILL"
    mesh = ("--mesh.data", 2, "--mesh.fsdp", 2)
    again = launched("sac", *flags, *mesh, "--out", tmp_path / "run", processes=4, devices=1)
    ended(again)
    assert_close_runs(tmp_path / "whole", tmp_path / "run", rtol=1e-3, atol=1e-4)


def test_sigterm_to_one_process_saves_all_of_them(tmp_path):
    flags = (*SAC, "--steps", 16_000, "--out", tmp_path / "run")
    process = launched("sac", *flags)
    scripts.wait_for(process, tmp_path / "run", reports=1)
    second(process).terminate()
    out, err = ended(process, status=143)
    assert out.count("terminated: the run is saved") == 2, err
    assert len(scripts.arrays(tmp_path / "run")) > 20


def test_processes_that_disagree_are_refused_with_the_difference(tmp_path):
    around = ("bash", "-c", DISAGREE, "_")
    process = launched("sac", *SAC, "--out", tmp_path / "run", around=around)
    out, err = ended(process, status=2)
    assert "agent.gamma: process 0 has 0.99, process 1 has 0.5" in out
    assert "error: processes:" in err.splitlines()[-1]
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_coordinator_that_never_answers(tmp_path):
    alone = ("--processes.count", 2, "--processes.index", 1, "--processes.timeout", 2)
    where = ("--processes.coordinator", "localhost:1", "--out", tmp_path / "run")
    _, err = scripts.run("sac", *alone, *where, status=2)
    assert "process 1 of 2 waits at most 2 s for process 0 at localhost:1" in err
    assert "nobody answered at localhost:1 within 2 s" in err.splitlines()[-1]
