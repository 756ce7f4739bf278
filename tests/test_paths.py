import os
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrl import paths, provenance, writers
from jaxrl.data import sources
from jaxrl.data.episodes import assemble
from jaxrl.data.sources import rlds
from jaxrl.errors import UserError
from tests import buckets
from tests.data import synthetic


@pytest.fixture(scope="module")
def bucket():
    with buckets.serving() as name:
        yield name


@pytest.mark.parametrize("name", ["gs://bucket/run", Path("gs://bucket/run"), "gs:/bucket/run"])
def test_a_bucket_keeps_its_name(name):
    path = paths.of(name)
    assert paths.remote(name) and paths.remote(path)
    assert str(path / "a" / "b") == "gs://bucket/run/a/b"
    assert str(paths.of(path)) == "gs://bucket/run"


@pytest.mark.parametrize("name", ["runs/x", "/tmp/gs:/x", "gsx/y", "gs:", Path("gs") / "x"])
def test_everything_else_is_of_this_machine(name):
    assert isinstance(paths.of(name), Path) and not paths.remote(name)
    assert paths.of(name) == Path(name)


def test_the_home_directory_is_expanded():
    assert paths.of("~/x") == Path.home() / "x"


def test_replacing_leaves_one_file(tmp_path):
    for content in ("one", b"two"):
        paths.replace(tmp_path / "x", content)
    assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"two"


def test_a_crash_while_replacing_leaves_the_old_file(tmp_path, monkeypatch):
    paths.replace(tmp_path / "x", "old")
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        paths.replace(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old"


def test_what_a_run_writes_is_found_in_a_bucket(bucket):
    directory = paths.of(f"{bucket}/run")
    provenance.write(directory, {"a": 1}, [])
    assert provenance.read(directory) == {"a": 1, "starts": []}
    log = writers.jsonl(directory / "metrics.jsonl")
    for step in (1, 2, 3):
        log.write({"step": step, "return": [1.0 * step, 2.0]})
    log.close()
    again = writers.jsonl(directory / "metrics.jsonl")  # a resume, from step 2
    assert [r["step"] for r in writers.trim(directory / "metrics.jsonl", 2)] == [1, 2]
    again.close()
    again = writers.jsonl(directory / "metrics.jsonl")
    again.write({"step": 4, "return": [1.0, 2.0]})
    assert [r["step"] for r in writers.records(directory / "metrics.jsonl")] == [1, 2, 4]
    writers.draw(directory / "metrics.jsonl", directory / "curve.png")
    assert (directory / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_datasets_are_read_from_a_bucket(bucket, tmp_path):
    path = rlds.write(tmp_path / "x", synthetic.episodes(), {"seed": 3})
    for file in path.iterdir():
        paths.of(f"{bucket}/data/1.0.0/{file.name}").write_bytes(file.read_bytes())
    source = sources.find(f"local/{bucket}/data")
    assert source.metadata["seed"] == 3
    found, true = assemble(source, 2), sources.load(f"local/{path}", 2)
    jax.tree.map(np.testing.assert_array_equal, found, true)
    np.testing.assert_array_equal(source.read(4).obs, synthetic.episodes()[4].obs)


def test_what_cannot_be_in_a_bucket_is_refused(bucket):
    with pytest.raises(UserError, match="data2: dataset_info.json: missing"):
        sources.find(f"local/{bucket}/data2")
    with pytest.raises(UserError, match="only local/ and tfds/ are read"):
        sources.find(f"d4rl/{bucket}/x.hdf5")
    with pytest.raises(UserError, match="expected a directory to copy from"):
        rlds.write(f"{bucket}/new", synthetic.episodes(), {})
