import json
import sys
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from benchmarks import cases, programs, throughput
from benchmarks.peer import Peer, Process, environment, python_of
from jaxrl import experiment
from jaxrl.agents import sac
from jaxrl.errors import UserError
from jaxrl.experiment import EXTRA_OPTIONS

ECHO = """
import json, sys
print(json.dumps({"versions": {"echo": sys.argv[1]}, "platform": "none"}), flush=True)
for line in sys.stdin:
    print(json.dumps(float(len(line.strip()))), flush=True)
"""


@pytest.fixture
def tiny(monkeypatch):
    """One agent, small enough to compile in a moment."""
    case = replace(cases.CASES["sac"], config=sac.Config(hidden=(8,)), length=2, host=False)
    monkeypatch.setitem(cases.CASES, "sac", case)
    monkeypatch.setattr(cases, "HELD", 512)
    return case


@pytest.fixture
def echo(tmp_path):
    script = tmp_path / "echo.py"
    script.write_text(ECHO)
    return Peer("echo", script, ("updates",))


def test_measures_an_agent_and_writes_what_it_found(tiny, tmp_path, capsys):
    path = tmp_path / "results" / "sac.json"
    throughput.main(throughput.Config(json=path, seconds=0.01))
    found = json.loads(path.read_text())
    updates = found["results"]["updates"]
    assert [len(updates["windows"][name]) for name in ("ceiling", "sac")] == [7, 5]
    share = updates["medians"]["sac"] * found["programs"]["sac"]["flops"]
    assert updates["share_of_ceiling"]["sac"] == pytest.approx(
        share / updates["medians"]["ceiling"]
    )
    assert updates["medians"]["ceiling"] == max(updates["windows"]["ceiling"])
    assert found["peak_rss_bytes"] > 2**20
    assert found["programs"]["sac"]["compile_seconds"] > 0
    assert {"commit", "versions", "cores", "processor", "command", "load_average"} <= found.keys()
    assert "of the ceiling" in capsys.readouterr().out


def test_a_program_learns_from_window_to_window(tiny):
    program = programs.compiled(tiny, 0.0)
    player = program.window.func.__self__
    before = int(player.state.step)
    program.window()
    program.window()
    assert int(player.state.step) - before == 2 * tiny.length


def test_every_case_can_be_traced():
    for name, case in cases.CASES.items():
        agent = case.module.make(cases.SPEC, case.config)
        data = jax.eval_shape(case.data, jax.random.key(0))
        batch = jax.eval_shape(case.draw, data, jax.random.key(0))
        state = jax.eval_shape(agent.init, jax.random.key(0))
        after, metrics = jax.eval_shape(agent.update, state, batch, jax.random.key(0))
        assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state), (
            name
        )
        assert metrics, name


def test_dsac_is_measured_beside_sac_at_equal_network_size():
    assert throughput.chosen("dsac") == ["sac", "dsac"]
    assert cases.CASES["dsac"].config.hidden == cases.CASES["sac"].config.hidden
    found = throughput.ratios({"sac": 300.0, "dsac": 200.0, "sbx-rl": 200.0, "ceiling": 1.0})
    assert found == {"speed sac / sbx-rl": 1.5, "cost dsac / sac": 1.5}


def test_all_agents():
    assert throughput.chosen("all") == list(cases.CASES)


def test_unknown_agent_lists_near_names():
    with pytest.raises(UserError, match="agent: no 'sca'; near names: sac"):
        throughput.chosen("sca")


def test_a_peer_answers_measure_by_measure(echo):
    with Process(echo, Path(sys.executable), 0.5) as process:
        assert process.about["versions"] == {"echo": "0.5"}
        windows = process.windows("updates")
        assert [windows["echo"](), windows["echo"]()] == [len("updates")] * 2
        assert process.windows("environment") == {}


@pytest.mark.parametrize("flag", ["--xla_cpu_enable_fast_math=false", f"{EXTRA_OPTIONS}=a=1"])
def test_a_peer_gets_the_flags_of_the_user_and_not_ours(flag, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "here")
    monkeypatch.setenv("XLA_FLAGS", flag)
    experiment.compile_small_loops()
    found = environment()
    assert "PYTHONPATH" not in found
    assert found["XLA_FLAGS"] == flag


def test_a_peer_that_ends_is_named(echo):
    echo.script.write_text("raise SystemExit(3)")
    with pytest.raises(UserError, match="echo ended with status 3"):
        Process(echo, Path(sys.executable), 0.5)


def test_an_environment_that_is_ready_is_kept(echo, tmp_path):
    echo = echo._replace(requirements=tmp_path / "requirements.txt")
    echo.requirements.write_text("# nothing\n")
    home = tmp_path / "echo"
    (home / "bin").mkdir(parents=True)
    (home / "installed.txt").write_text("# nothing\n")
    assert python_of(echo, tmp_path) == home / "bin" / "python"


def test_packages_that_cannot_be_installed_are_reported(echo, tmp_path):
    echo = echo._replace(requirements=tmp_path / "requirements.txt")
    echo.requirements.write_text("./no-such-directory\n")
    (tmp_path / "echo" / "bin").mkdir(parents=True)
    (tmp_path / "echo" / "bin" / "python").symlink_to(sys.executable)
    with pytest.raises(UserError, match="could not install"):
        python_of(echo, tmp_path)
    assert not (tmp_path / "echo" / "installed.txt").exists()
