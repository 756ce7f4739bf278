"""Datasets of a run: what is collected, and what is refused."""

import json

import numpy as np
import pytest

from jaxrl import checkpoint
from jaxrl.data import sources
from jaxrl.data.dataset import extents, returns
from tests import scripts

RUN = (
    *("--steps", "60", "--loop.report-every", "20", "--loop.warmup", "16", "--loop.batch-size"),
    *("8", "--loop.capacity", "40", "--agent.hidden", "8", "--episodes", "2", "--cache", "None"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two seeds of SAC that were stopped at once."""
    out = tmp_path_factory.mktemp("runs") / "sac"
    flags = ("--out", out, "--num-seeds", 2, "--stop-at-return", -1e9, "--loop.report-every", 60)
    scripts.play("sac", *RUN, *flags)
    return out


@pytest.fixture
def collect(script, run, tmp_path, capsys):
    """Collect with the given flags: the dataset and what was printed."""

    def collected(*flags, out="data"):
        capsys.readouterr()
        flags = ("--run", run, "--envs", 2, "--out", tmp_path / out, *flags)
        script("collect", *flags, trains=False)
        return sources.load(f"local/{tmp_path / out}", 1), json.loads(capsys.readouterr().out)

    return collected


@pytest.mark.parametrize("kind", ["random", "medium", "expert"])
def test_policies(collect, kind):
    data, printed = collect("--kind", kind, "--steps", 500)
    assert data.size == printed["transitions"] == 500
    assert extents(data).length.tolist() == [200, 50] * 2  # a time limit, and the end of it all
    np.testing.assert_allclose(returns(data).mean(), printed["return_mean"], rtol=1e-5)
    assert printed["env"] == "jaxrl/Pendulum-v1" and printed["versions"]["jax"]
    assert printed["parts"][kind]["run"]["name"] == "sac"


def test_replay_is_what_the_run_remembers_in_order(collect, run):
    data, _ = collect("--kind", "replay", "--steps", 1000, "--of-seed", 1)
    assert data.size == 40  # all that its ring holds
    saved = scripts.arrays(run)
    ring = next(x for name, x in saved.items() if "'rest'][1]" in name and "'reward'" in name)
    held = np.roll(ring[0, :, 0], -(60 % 40))  # 60 rows went through it
    np.testing.assert_array_equal(np.asarray(data.steps.reward)[0, :40], held)


def test_a_mixture_has_the_stated_shares(collect):
    shares = ("--mixture.random", 0.75, "--mixture.medium", 0, "--mixture.replay", 0)
    data, printed = collect("--kind", "mixed", *shares, "--mixture.expert", 0.25, "--steps", 400)
    counts = {kind: part["transitions"] for kind, part in printed["parts"].items()}
    assert counts == {"random": 300, "expert": 100} and data.size == 400


def test_a_collection_is_a_function_of_its_seed(collect):
    flags = {"a": (), "b": (), "c": ("--seed", 1)}
    data = [
        collect("--kind", "random", "--steps", 20, *x, out=name)[0] for name, x in flags.items()
    ]
    first, second, other = (np.asarray(d.steps.reward) for d in data)
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--run", "nowhere"), "nowhere"),
        (("--of-seed", 9), "seed: found 9"),
        (("--steps", 0), "steps: found 0"),
        (("--kind", "mixed", "--mixture.random", 0.5), "add up to 1"),
    ],
)
def test_bad_input(refused, run, tmp_path, flags, said):
    out = tmp_path / "data"
    arguments = ("--run", run, "--out", out, "--steps", 20, *flags)
    assert said in refused("collect", *arguments, trains=False)
    assert not out.exists()


def test_medium_needs_a_run_that_was_stopped_early(refused, run, tmp_path):
    settings = checkpoint.settings(run) | {"stop_at_return": None}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    flags = ("--run", tmp_path, "--kind", "medium", "--out", tmp_path / "data")
    assert "--stop-at-return" in refused("collect", *flags, trains=False)
