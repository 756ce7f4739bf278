"""One small agent of each kind is compiled for a slice of TPUs; the rest needs no compiler."""

import json
import platform
import sys
from dataclasses import replace

import pytest

from benchmarks import tpu, tpu_compile
from benchmarks.tpu import Cell, Config
from benchmarks.tpu_table import LIMIT, described, judged, scaled
from jaxrl.errors import UserError

CELL = Cell("sac", "v5e:2x4")
FOUND = {
    "workload": "sac",
    "topology": "v5e:2x4",
    "mesh": [8, 1, 1],
    "slice": [2, 4, 1],
    "per_chip": 256,
    "precision": "float32",
    "samples": 2048,
    "compiles": True,
    "compile_seconds": 1.0,
    "argument_bytes": 3e6,
    "peak_bytes": 8e6,
    "host_transfers": 0,
    "useful_flops": 8e9,
    "flops": 1.5e9,
    "products": 9e9,
    "hbm_bytes": 6e6,
    "unknown_loops": 0,
    "collectives": [{"kind": "all-reduce", "extents": [2, 4, 1], "count": 2, "bytes": 1e6}],
}
HERE = (sys.platform, platform.machine()) == ("linux", "x86_64")
COMPILER = pytest.mark.skipif(not HERE, reason="libtpu is for Linux on x86-64 alone")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("tpu")


@COMPILER
@pytest.mark.parametrize("workload", ["small_sac_seeds", "small_ppo", "small_decision_transformer"])
def test_compiles_for_eight_chips_without_repeated_work(workload, cache, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")  # some are for CPUs alone, and libtpu ends at one it knows not
    row = judged(tpu.facts(Cell(workload, "v5e:2x4"), cache, 300))
    assert row.get("compiles"), row
    assert 0.9 < row["replication"] <= LIMIT
    assert row["host_transfers"] == 0 and row["unknown_loops"] == 0
    assert row["peak_bytes"] < 16e9 and "at most" in described(row)
    kinds = {collective["kind"] for collective in row["collectives"]}
    if workload == "small_sac_seeds":
        assert not kinds
    elif workload == "small_ppo":
        assert kinds == {"all-reduce"}


def test_a_cell_is_compiled_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(tpu, "compiled", lambda cell, timeout: calls.append(cell) or FOUND)
    assert tpu.facts(CELL, tmp_path, 1) == tpu.facts(CELL, tmp_path, 1) == FOUND
    tpu.facts(replace(CELL, precision="bfloat16"), tmp_path, 1)
    assert len(calls) == 2


def test_what_failed_is_tried_again(tmp_path, monkeypatch):
    calls = []
    failed = {"failed": "status -6: aborted"}
    monkeypatch.setattr(tpu, "compiled", lambda cell, timeout: calls.append(cell) or failed)
    assert "failed, status -6" in described(FOUND | tpu.facts(CELL, tmp_path, 1))
    tpu.facts(CELL, tmp_path, 1)
    assert len(calls) == 2


def test_a_process_that_fails_ends_its_cell_alone(monkeypatch):
    script = "import sys; print('no /home/me/x here', file=sys.stderr); sys.exit(3)"
    monkeypatch.setattr(tpu, "COMMAND", ["-c", script])
    assert tpu.compiled(CELL, 60)["failed"] == "status 3: no ... here"


def test_a_process_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(tpu, "COMMAND", ["-c", "import time; time.sleep(60)"])
    assert "longer than 0.5 s" in tpu.compiled(CELL, 0.5)["failed"]


def test_a_table_is_written_cell_by_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tpu, "compiled", lambda cell, timeout: FOUND)
    path = tmp_path / "results" / "tpu.json"
    tpu.measure(Config(agent="loops", json=path, cache=tmp_path))
    found = json.loads(path.read_text())
    assert len(found["tpu"]) == len(tpu.cells(Config(agent="loops")))
    assert {"commit", "versions", "command", "processor"} <= found.keys()
    assert "per chip 3 MB of arguments" in capsys.readouterr().out


def test_every_agent_is_in_the_table():
    from tests.agents.catalog import CASES

    agents = {case.module.__name__.rpartition(".")[2] for case in CASES}
    assert agents <= {cell.workload for cell in tpu.cells(Config())}


def test_topologies_times_workloads():
    found = tpu.cells(Config(topology=("v5e:2x4", "v5p:2x2x1"), agent="iql", mesh=(4, 1, 1)))
    assert [(cell.topology, cell.mesh) for cell in found] == [
        ("v5e:2x4", (4, 1, 1)),
        ("v5p:2x2x1", (4, 1, 1)),
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(agent="sca"), "agent: no 'sca'; near names: sac"),
        (Config(topology=("v9:2x2",)), "topology: no 'v9'"),
    ],
)
def test_names_that_do_not_exist(config, message):
    with pytest.raises(UserError, match=message):
        tpu.cells(config)


def test_both_numbers_of_a_program_that_does_not_fit():
    message = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: XLA:TPU compile permanent error. Ran out of "
        "memory in memory space hbm. Used (22.53G) exceeds available HBM (15.75G)."
    )
    found = tpu_compile.out_of_memory(message)
    assert found == {"needed_bytes": 22.53 * 2**30, "available_bytes": 15.75 * 2**30}
    row = {**FOUND, "compiles": False, **found}
    assert "does not fit, needs 24.2 GB of 16.9 GB" in described(judged(row))


def test_another_error_is_told_without_directories():
    with pytest.raises(RuntimeError, match=r"^INTERNAL: at \.\.\. line 3$"):
        tpu_compile.out_of_memory("INTERNAL: at /home/me/x.py line 3")


def test_what_follows_from_the_facts():
    row = judged(FOUND)
    assert row["replication"] == 1.5 and "repeat each other's work" in described(row)
    assert row["bound"] == "compute"
    assert row["steps_per_second"] == pytest.approx(197e12 / 9e9)
    assert row["samples_per_second"] == pytest.approx(2048 * 197e12 / 9e9)
    assert row["efficiency"]["overlapped"] == 1 > row["efficiency"]["serial"]


def test_numbers_with_prefixes():
    assert [scaled(x, "B") for x in (0, 8.05e6, 999, 2e-5, 1e-8)] == [
        *("0 B", "8.05 MB", "999 B", "20 uB", "0.01 uB"),
    ]
