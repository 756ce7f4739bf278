"""A whole run's outputs: new, resumed, refused, and on other processes."""

import dataclasses
import json
import time

import jax
import jax.numpy as jnp
import pytest

from jaxrl import report
from jaxrl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Config:
    gamma: float = 0.99
    steps: int = 30


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def run(directory, reports, begin=0, **settings):
    with report.open(directory, Config(**settings), 30, begin) as opened:
        for step in reports:
            opened.log(step, {"return": jnp.array([-1.0, -3.0]), "critic_loss": jnp.float32(0.5)})


def test_a_run_writes_its_files(tmp_path, capsys):
    directory = tmp_path / "runs" / "a"
    run(directory, [10, 20, 30])
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["config.json", "curve.png", "metrics.jsonl"]
    assert json.loads((directory / "config.json").read_text())["gamma"] == 0.99
    records = lines(directory)
    assert [record["step"] for record in records] == [10, 20, 30]
    assert records[0]["return"] == [-1.0, -3.0]
    assert records[0]["return_mean"] == -2.0
    assert records[0]["critic_loss"] == 0.5
    seconds = [record["seconds"] for record in records]
    assert seconds == sorted(seconds)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_one_return_is_a_list_and_nan_is_a_string(tmp_path):
    with report.open(tmp_path, {}, 10) as opened:
        opened.log(1, {"return": 2.0, "loss": float("nan")})
        opened.log(2, {"return": jnp.array([jnp.nan]), "loss": jnp.array([1.0, jnp.inf])})
        opened.log(3, {"loss": 1})
    first, second, third = lines(tmp_path)
    assert (first["return"], first["return_mean"], first["loss"]) == ([2.0], 2.0, "nan")
    assert (second["return"], second["return_mean"]) == (["nan"], "nan")
    assert second["loss"] == [1.0, "inf"]
    assert "return" not in third


def test_updates_per_second(tmp_path, monkeypatch):
    with report.open(tmp_path, {}, 100) as opened:
        opened.outputs, opened.opened, opened.logged = opened.outputs[:1], 100.0, 100.0
        monkeypatch.setattr(time, "monotonic", lambda: 102.0)
        opened.log(10, {"loss": 0.0})  # one update a step unless told
        monkeypatch.setattr(time, "monotonic", lambda: 106.0)
        opened.log(20, {"updates": jnp.array([40, 60])})
    first, second = lines(tmp_path)
    assert first["updates_per_second"] == 5.0
    assert second["updates_per_second"] == 25.0
    assert (first["seconds"], second["seconds"]) == (2.0, 6.0)
    assert "updates" not in second


def test_a_resume_drops_what_follows_the_checkpoint_and_counts_on(tmp_path):
    run(tmp_path, [10, 20, 30])
    before = lines(tmp_path)
    run(tmp_path, [30], begin=20, steps=60)
    after = lines(tmp_path)
    assert after[:2] == before[:2]
    assert [record["step"] for record in after] == [10, 20, 30]
    assert after[2]["seconds"] > before[1]["seconds"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["steps"] == 60
    assert [start["step"] for start in config["starts"]] == [0, 20]


def test_a_resume_on_other_cores_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report.provenance, "usable_cores", lambda: 2)
    run(tmp_path, [10])
    run(tmp_path, [20], begin=10)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and "going on from step 10" in told[0]
    monkeypatch.setattr(report.provenance, "usable_cores", lambda: 3)
    run(tmp_path, [30], begin=20)
    assert "resumed at step 20: cores was 2, is 3" in capsys.readouterr().err


def test_other_settings_are_refused_and_nothing_is_touched(tmp_path):
    run(tmp_path, [10, 20])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"gamma: found 0\.99 in .*, asked for 0\.98"):
        run(tmp_path, [30], begin=10, gamma=0.98)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_unknown_writer_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="writers"):
        report.open(tmp_path / "new", Config(), 10, names=("papers",))
    assert not (tmp_path / "new").exists()


def test_optional_writers_receive_the_records(tmp_path):
    with report.open(tmp_path, Config(), 10, names=("tensorboard",)) as opened:
        opened.log(1, {"loss": 1.0})
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_directory_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="out: .*file"):
        report.open(tmp_path / "file", Config(), 10)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match=r"no config\.json"):
        report.open(tmp_path, Config(), 10)
    assert lines(tmp_path) == [{"step": 1}]


def test_other_processes_write_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    run(tmp_path / "new", [10])
    assert not (tmp_path / "new").exists()
    assert capsys.readouterr().out == ""


def test_the_files_are_closed_after_an_error(tmp_path):
    with pytest.raises(SystemExit), report.open(tmp_path, Config(), 10) as opened:
        opened.log(1, {"return": 0.0})
        raise SystemExit(143)
    assert (tmp_path / "curve.png").exists()
    opened.close()  # once more does nothing
    opened.log(2, {})
    assert len(lines(tmp_path)) == 1
