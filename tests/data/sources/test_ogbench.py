import numpy as np
import pytest

from jaxrl.data import sources
from jaxrl.data.episodes import from_episodes
from jaxrl.errors import UserError
from tests.data import synthetic


def load(path, fields, repair=()):
    return sources.load(f"ogbench/{synthetic.write_npz(path, fields)}", 1, repair)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.npz"


def without(fields, *names):
    return {k: v for k, v in fields.items() if k not in names}


def test_terminals_end_trajectories_and_not_the_mdp(path):
    loaded = load(path, without(synthetic.rows(synthetic.episodes()), "masks"))
    acted = ~np.asarray(loaded.steps.last)
    assert (np.asarray(loaded.steps.discount)[acted] == 1).all()


def test_rewards_may_be_absent(path):
    loaded = load(path, without(synthetic.rows(synthetic.episodes()), "rewards"))
    assert not loaded.steps.reward.any()


def test_names_are_looked_up_in_the_data_directory(path, monkeypatch):
    synthetic.write_npz(path, synthetic.rows(synthetic.episodes()))
    monkeypatch.setenv("OGBENCH_DATA_DIR", str(path.parent))
    assert sources.load("ogbench/data", 1).size == sum(synthetic.LENGTHS)
    with pytest.raises(UserError, match="near names: data.npz"):
        sources.load("ogbench/dat")


@pytest.mark.parametrize("chunk", [1, 5])
def test_chunks_may_cut_trajectories_anywhere(path, chunk, monkeypatch):
    monkeypatch.setattr("jaxrl.data.sources.ogbench.CHUNK", chunk)
    loaded, expected = load(path, synthetic.rows(synthetic.episodes())), synthetic.episodes()
    expected = from_episodes(expected)
    for name in ("obs", "action", "reward", "discount", "last"):
        found = getattr(loaded.steps, name)
        np.testing.assert_array_equal(found, getattr(expected.steps, name))


def test_files_of_numpy_1_and_uncompressed_ones_are_read(path):
    np.savez(path, **synthetic.rows(synthetic.episodes()))
    assert sources.load(f"ogbench/{path}", 1).size == sum(synthetic.LENGTHS)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float64])
def test_terminals_and_masks_may_be_of_any_type(path, dtype):
    fields = synthetic.rows(synthetic.episodes())
    loaded = load(path, fields | {k: fields[k].astype(dtype) for k in ("terminals", "masks")})
    expected = from_episodes(synthetic.episodes())
    np.testing.assert_array_equal(loaded.steps.discount, expected.steps.discount)
    np.testing.assert_array_equal(loaded.steps.last, expected.steps.last)


def test_what_the_last_row_of_a_trajectory_holds_means_nothing(path):
    fields = synthetic.rows(synthetic.episodes())
    for field in ("actions", "rewards", "masks"):
        fields[field][fields["terminals"]] = np.nan
    expected = from_episodes(synthetic.episodes())
    np.testing.assert_array_equal(load(path, fields).steps.reward, expected.steps.reward)


def spoil(field, row, value):
    """One wrong number, in what may have been booleans."""

    def spoiled(fields):
        values = fields[field].astype(np.float32)
        values[row] = value
        return fields | {field: values}

    return spoiled


ERRORS = [
    (lambda f: without(f, "actions"), "actions: missing; the file has masks"),
    (lambda f: f | {"actions": f["actions"][1:]}, r"actions: found shape \(44, 2\), expected \(45"),
    (lambda f: f | {"rewards": f["rewards"][:, None]}, "rewards: found shape"),
    (
        lambda f: f | {"observations": f["observations"].astype(float)},
        "observations: found float64",
    ),
    (lambda f: f | {"terminals": np.zeros(45, bool)}, "terminals: the trajectory up to row 44"),
    (lambda f: f | {"terminals": np.ones(45, bool)}, "terminals: .* row 0 has no transition"),
    (lambda f: {k: v[:0] for k, v in f.items()}, "observations: found no rows"),
    (lambda f: f | {"actions": f["actions"][:, :0]}, r"actions: found shape \(45, 0\)"),
    (spoil("observations", 9, np.nan), "observations: row 9 is not finite"),
    (spoil("actions", 20, np.nan), "actions: row 20 is not finite"),
    (spoil("rewards", 20, np.inf), "rewards: row 20 is not finite"),
    (spoil("terminals", 20, np.nan), "terminals: row 20 is nan, expected 0 or 1"),
    (spoil("masks", 20, 7), "masks: row 20 is 7.0, expected 0 or 1"),
    (spoil("masks", 20, 0.5), "masks: row 20 is 0.5, expected 0 or 1"),
    (lambda f: f | {"terminals": f["terminals"].astype("U1")}, "terminals: found type .U1"),
    (lambda f: f | {"actions": 3 * f["actions"]}, "actions: found .*repair='actions'"),
]


@pytest.mark.parametrize("chunk", [4, 65_536])
@pytest.mark.parametrize("spoil_fields, message", ERRORS)
def test_bad_files_are_refused_by_file_and_field(path, spoil_fields, message, chunk, monkeypatch):
    monkeypatch.setattr("jaxrl.data.sources.ogbench.CHUNK", chunk)  # rows are the file's
    with pytest.raises(UserError, match=f"data.npz: {message}"):
        load(path, spoil_fields(synthetic.rows(synthetic.episodes())))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_truncated_files_are_refused(path, share):
    synthetic.write_npz(path, synthetic.rows(synthetic.episodes()))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="data.npz: npz file: cannot be read"):
        sources.load(f"ogbench/{path}", 1)


def test_corrupt_arrays_are_refused(path):
    np.savez(path, **synthetic.rows(synthetic.episodes()))
    content = bytearray(path.read_bytes())
    start = content.index(b"NUMPY") + 200  # inside the first array
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="data.npz: "):
        sources.load(f"ogbench/{path}", 1)
