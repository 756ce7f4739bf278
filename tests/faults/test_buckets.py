"""Runs that are kept in a bucket: killed, resumed, evaluated."""

import json
import time

import pytest

from jaxrl import checkpoint, paths
from tests import buckets, scripts

pytestmark = pytest.mark.slow

FLAGS = (
    *("--steps", 1200, "--num-seeds", 2, "--loop.report-every", 150, "--loop.warmup", 400),
    *("--loop.capacity", 2000, "--episodes", 2, "--checkpoint-every", 0, "--agent.hidden", 16),
    "--video",
)


@pytest.fixture(scope="module")
def bucket():
    with buckets.serving() as name:
        yield name


def test_a_killed_run_resumes_from_its_bucket_bit_equal(bucket, tmp_path):
    out = f"{bucket}/runs/sac"
    for reports in (2, 5):
        process = scripts.start("sac", *FLAGS, "--out", out)
        wait_for(process, out, reports)
        scripts.kill(process)
    scripts.run("sac", *FLAGS, "--out", out)
    scripts.run("sac", *FLAGS, "--out", tmp_path / "whole")
    scripts.assert_same_run(paths.of(out), tmp_path / "whole")
    assert (paths.of(out) / "rollout.gif").read_bytes().startswith(b"GIF")
    assert (paths.of(out) / "curve.png").exists()
    agent, state = checkpoint.load(out, seed=1)
    assert int(state.step) > 0
    printed, _ = scripts.run("evaluate", "--run", out, "--episodes", 2)
    assert json.loads(printed)["episodes"]


def wait_for(process, out, reports):
    """As `scripts.wait_for`; gcsfs remembers what was not there when it looked first."""
    while not scripts.metrics(paths.of(out))[reports - 1 :]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
        buckets.forget()
