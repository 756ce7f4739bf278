"""The DSAC-T script: its files, and an agent that a notebook can load."""

import jax.numpy as jnp

from jaxrl import checkpoint
from jaxrl.agents import dsac
from tests import scripts


def test_a_run(script, tmp_path):
    script(
        "dsac",
        *("--steps", "40", "--loop.report-every", "20", "--loop.warmup", "16", "--num-seeds", "1"),
        *("--loop.batch-size", "8", "--loop.capacity", "64", "--agent.hidden", "8"),
        *("--episodes", "2", "--cache", "None", "--out", tmp_path),
    )
    rows = scripts.metrics(tmp_path)
    assert [row["step"] for row in rows] == [20, 40]
    assert {"q_std", "entropy"} <= rows[-1].keys()
    agent, state = checkpoint.load(tmp_path)
    assert agent.act(state, jnp.zeros((1, 3))).shape == (1, 1)
    assert isinstance(state, dsac.State) and int(state.step) == 25
