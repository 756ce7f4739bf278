"""Records on disk survive a crash; the other writers show the same numbers."""

import io
import json
import struct
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxrl import writers
from jaxrl.errors import UserError

RECORDS = [
    {"step": step, "seconds": 0.5, "return": [-step, step], "return_mean": 0.0}
    for step in (10, 20, 30)
]


def fill(path, records=RECORDS):
    writer = writers.jsonl(path)
    for record in records:
        writer.write(record)
    writer.close()


def test_jsonl_is_on_disk_line_by_line(tmp_path):
    writer = writers.jsonl(tmp_path / "metrics.jsonl")
    for i, record in enumerate(RECORDS):
        writer.write(record)
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == RECORDS[: i + 1]
    writer.close()


def test_jsonl_refuses_what_is_not_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        fill(tmp_path / "metrics.jsonl", [{"step": 1, "loss": float("nan")}])


def test_trim_drops_later_steps(tmp_path):
    path = tmp_path / "metrics.jsonl"
    fill(path)
    assert writers.trim(path, 20) == RECORDS[:2]
    assert writers.records(path) == RECORDS[:2]
    fill(path, RECORDS[2:])
    assert writers.records(path) == RECORDS


@pytest.mark.parametrize("rest", ['{"step": 30, "sec', '{"step": 30}x', "\xff"])
def test_trim_drops_a_partial_last_line(tmp_path, rest):
    path = tmp_path / "metrics.jsonl"
    fill(path, RECORDS[:2])
    with path.open("a", encoding="latin-1") as file:
        file.write(rest)
    assert writers.trim(path, 1000) == RECORDS[:2]
    fill(path, RECORDS[2:])
    assert writers.records(path) == RECORDS


def test_trim_keeps_a_last_line_without_its_newline(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(RECORDS[0]))
    writers.trim(path, 1000)
    fill(path, RECORDS[1:])
    assert writers.records(path) == RECORDS


def test_trim_without_a_file(tmp_path):
    assert writers.trim(tmp_path / "metrics.jsonl", 0) == []
    assert list(tmp_path.iterdir()) == []


def test_damage_in_the_middle_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nnoise\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        writers.trim(path, 10)


def test_console_prints_plain_lines_off_a_terminal(capsys):
    writer = writers.console(total=40, step=0)
    for record in RECORDS:
        writer.write(record | {"return_mean": -12.34})
    writer.close()
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("step 20/40  ")
    assert lines[1].endswith("return -12.3")
    assert "steps/s" in lines[1]
    assert "left" in lines[1]
    assert "\r" not in out
    assert err == ""


def test_console_is_one_line_on_a_terminal(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    writer = writers.console(total=40, step=10)
    writer.write({"step": 20, "return_mean": "nan"})
    writer.write({"step": 40, "return_mean": -5.0})
    writer.close()
    shown = terminal.getvalue()
    assert shown.count("\n") == 1  # when closed
    assert "40/40" in shown.split("\r")[-1]
    assert "return -5.0" in shown.split("\r")[-1]


def test_interquartile_mean():
    values = np.array([[4.0, 100.0, 2.0, -50.0], [1.0, 1.0, 1.0, 5.0]])
    np.testing.assert_allclose(writers.interquartile_mean(values), [3.0, 1.0])
    np.testing.assert_allclose(writers.interquartile_mean(values[:, :3]), [106 / 3, 1.0])


def test_curve_is_redrawn_at_once_then_by_the_clock_and_when_closed(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(writers, "draw", lambda source, target: drawn.append(target.name))
    writer = writers.curve(tmp_path)
    for record in RECORDS:
        writer.write(record)
    assert drawn == ["curve.png"]
    monkeypatch.setattr(writers, "CURVE_SECONDS", 0.0)
    writer = writers.curve(tmp_path)
    for record in RECORDS:
        writer.write(record)
    writer.close()
    assert len(drawn) == 1 + 3 + 1


def test_draw(tmp_path):
    source, target = tmp_path / "metrics.jsonl", tmp_path / "curve.png"
    fill(source, [{"step": 1, "loss": 0.5}])
    writers.draw(source, target)
    assert not target.exists()  # nothing to show
    fill(source, [*RECORDS, {"step": 40, "return": ["nan", 1.0]}])
    writers.draw(source, target)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "metrics.jsonl"]


def test_scalars_by_seed():
    record = {"step": 3, "return": [1, "nan"], "loss": 0.5}
    found = dict(writers.scalars(record))
    assert found.keys() == {"return/0", "return/1", "loss"}
    assert found["return/0"] == 1.0
    assert np.isnan(found["return/1"])


def events(path):
    """The events of a TensorBoard file: length (8 bytes), its CRC (4), the event, its CRC (4)."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += 16 + length


def test_tensorboard_gets_every_scalar(tmp_path):
    writer = writers.tensorboard(tmp_path, {"seed": 1}, 0)
    for record in RECORDS:
        writer.write(record)
    writer.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    found = {
        (value.tag, event.step): value.simple_value
        for event in events(path)
        for value in event.summary.value
    }
    assert found["return/1", 20] == 20.0
    assert found["return/0", 30] == -30.0
    assert found["seconds", 10] == 0.5


def test_wandb_offline(tmp_path, monkeypatch, capfd):
    pytest.importorskip("wandb", reason="needs the extra `wandb`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for start in (0, 20):  # a resume keeps the run's identity
        writer = writers.wandb(tmp_path, {"seed": 1}, start)
        writer.write({**RECORDS[0], "step": start + 10})
        writer.close()
    runs = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert runs
    identity = (tmp_path / "wandb_id.txt").read_text()
    assert all(name.endswith(identity) for name in runs)
    assert any((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert capfd.readouterr().out == ""


def test_wandb_missing_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"jaxrl\[wandb\]"):
        writers.wandb(tmp_path, {}, 0)


def test_an_unknown_writer_is_refused_with_the_known():
    with pytest.raises(UserError, match="'papers'.*tensorboard, wandb"):
        writers.optional("papers")
