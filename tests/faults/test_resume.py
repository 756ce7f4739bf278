"""Runs that are killed, terminated, damaged or out of space, and what comes back."""

import random
import signal
import time

import pytest

from tests import scripts

pytestmark = pytest.mark.slow

PENDULUM = (
    *("--steps", 3000, "--num-seeds", 2, "--loop.report-every", 200, "--loop.warmup", 400),
    *("--loop.capacity", 2000, "--loop.n-step", 2, "--agent.normalize-obs"),
    *("--loop.envs", 2, "--episodes", 2, "--checkpoint-every", 0),
)
CHEETAH = (
    *("--env", "gymnasium/HalfCheetah-v5", "--steps", 2500, "--loop.report-every", 250),
    *("--loop.warmup", 500, "--loop.capacity", 1500, "--agent.hidden", 32, 32),
    *("--episodes", 1, "--checkpoint-every", 0),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of the Pendulum settings."""
    out = tmp_path_factory.mktemp("whole") / "run"
    scripts.run("sac", *PENDULUM, "--out", out)
    return out


def interrupted(flags, out, moments):
    """Kill the run once after each of so many reports, and a random while; then let it end."""
    for reports in moments:
        process = scripts.start("sac", *flags, "--out", out)
        scripts.wait_for(process, out, reports)
        time.sleep(random.uniform(0, 0.5))
        scripts.kill(process)
    return scripts.run("sac", *flags, "--out", out)


def test_killed_at_five_moments_ends_bit_equal(whole, tmp_path):
    interrupted(PENDULUM, tmp_path / "run", moments=(1, 3, 5, 8, 11))
    scripts.assert_same_run(whole, tmp_path / "run")


def test_killed_mujoco_run_ends_bit_equal(tmp_path):
    scripts.run("sac", *CHEETAH, "--out", tmp_path / "whole")
    interrupted(CHEETAH, tmp_path / "run", moments=(2, 5, 7))
    scripts.assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_sigterm_saves_first(whole, tmp_path):
    out = tmp_path / "run"
    patient = (*PENDULUM[:-2], "--checkpoint-every", 3600, "--out", out)
    process = scripts.start("sac", *patient)
    scripts.wait_for(process, out, reports=4)
    process.send_signal(signal.SIGTERM)
    code, _, err = scripts.finish(process)
    assert code == 143 and "resumes" in err
    assert len(scripts.arrays(out)) > 20
    scripts.run("sac", *patient)
    scripts.assert_same_run(whole, out)


def test_truncated_checkpoint_falls_back(whole, tmp_path):
    out = tmp_path / "run"
    scripts.run("sac", *PENDULUM, "--out", out, "--steps", 2000)
    newest = max((out / "checkpoints").iterdir(), key=lambda path: int(path.name))
    files = [path for path in newest.rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    _, err = scripts.run("sac", *PENDULUM, "--out", out)
    assert f"checkpoint {newest.name} cannot be read" in err
    scripts.assert_same_run(whole, out)


def test_full_disk_leaves_the_last_good_checkpoint(whole, tmp_path):
    out = tmp_path / "run"
    scripts.run("sac", *PENDULUM, "--out", out, "--steps", 1000)

    flags = (*PENDULUM, "--out", out, "--steps", 1600, "--cache", "None")
    _, err = scripts.run("sac", *flags, status=2, kib=20)
    assert "checkpoint not saved" in err and "last good one is 1000" in err
    scripts.run("sac", *PENDULUM, "--out", out)
    scripts.assert_same_run(whole, out)
