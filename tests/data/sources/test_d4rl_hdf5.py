import numpy as np
import pytest

from jaxrl.data import sources
from jaxrl.data.episodes import from_episodes, iterate
from jaxrl.errors import UserError
from tests.data import synthetic


def load(path, fields, repair=(), blocks=1):
    return sources.load(f"d4rl/{synthetic.write_hdf5(path, fields)}", blocks, repair)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.hdf5"


def test_ends_are_found_without_timeouts(path):
    """An episode that was cut is followed by an observation that is not its successor."""
    data = synthetic.episodes()
    loaded = load(path, synthetic.flat(data, timeouts=False))
    expected = from_episodes(data)
    np.testing.assert_array_equal(loaded.steps.obs, expected.steps.obs)
    np.testing.assert_array_equal(loaded.steps.last, expected.steps.last)
    np.testing.assert_array_equal(loaded.steps.discount, expected.steps.discount)


def test_without_successors_the_transition_into_a_time_limit_is_dropped(path):
    data = synthetic.episodes()
    loaded = list(iterate(load(path, synthetic.flat(data, successors=False))))
    assert len(loaded) == len(data)
    for found, true, terminal in zip(loaded, data, synthetic.TERMINAL, strict=True):
        n = len(true.action) if terminal else len(true.action) - 1
        np.testing.assert_array_equal(found.action, true.action[:n])
        np.testing.assert_array_equal(found.obs[:n], true.obs[:n])
        np.testing.assert_array_equal(found.discount, true.discount[:n])
        if not terminal:  # a terminal successor is unknown and never used
            np.testing.assert_array_equal(found.obs[n], true.obs[n])


def test_with_neither_locomotion_is_cut_at_its_time_limit(tmp_path):
    n = 2500
    fields = {
        "observations": np.arange(n, dtype=np.float32)[:, None],
        "actions": np.zeros((n, 1), np.float32),
        "rewards": np.ones(n, np.float32),
        "terminals": np.arange(n) == 299,
    }
    cut = load(tmp_path / "hopper-medium-v0.hdf5", fields)
    # 300 steps to the terminal one, 999 of 1000 twice, 199 of the last 200.
    assert [len(e.action) for e in iterate(cut)] == [300, 999, 999, 199]
    whole = load(tmp_path / "maze2d.hdf5", fields)
    assert [len(e.action) for e in iterate(whole)] == [300, 2199]


def test_terminal_at_the_time_limit_is_terminal(path):
    fields = synthetic.flat(synthetic.episodes())
    fields["timeouts"] = fields["timeouts"] | fields["terminals"]
    discount = load(path, fields).steps.discount
    np.testing.assert_array_equal(discount, from_episodes(synthetic.episodes()).steps.discount)


@pytest.mark.parametrize("chunk", [1, 4, 7])
def test_chunks_may_cut_episodes_anywhere(path, chunk, monkeypatch):
    monkeypatch.setattr("jaxrl.data.sources.d4rl_hdf5.CHUNK", chunk)
    expected = from_episodes(synthetic.episodes())
    for timeouts in (True, False):
        loaded = load(path, synthetic.flat(synthetic.episodes(), timeouts=timeouts))
        np.testing.assert_array_equal(loaded.steps.obs, expected.steps.obs)
        np.testing.assert_array_equal(loaded.steps.action, expected.steps.action)


def spoil(field, row, value):
    def spoiled(data):
        values = np.array(data[field])
        values[row] = value
        return data | {field: values}

    return spoiled


FLAGS = [np.uint8, np.int64, np.float32, np.float64]


@pytest.mark.parametrize("dtype", FLAGS)
def test_ends_may_be_numbers(path, dtype):
    fields = synthetic.flat(synthetic.episodes())
    loaded = load(path, cast("timeouts", dtype)(cast("terminals", dtype)(fields)))
    expected = from_episodes(synthetic.episodes())
    np.testing.assert_array_equal(loaded.steps.discount, expected.steps.discount)
    np.testing.assert_array_equal(loaded.steps.last, expected.steps.last)


def cast(field, dtype):
    return lambda data: data | {field: data[field].astype(dtype)}


def flag(field, row, value):
    return lambda data: spoil(field, row, value)(cast(field, float)(data))


ERRORS = [
    (lambda d: {k: v for k, v in d.items() if k != "rewards"}, "rewards: missing; .* actions"),
    (
        lambda d: d | {"actions": d["actions"][:-1]},
        r"actions: found shape \(38, 2\), expected \(39",
    ),
    (lambda d: d | {"rewards": d["rewards"][:, None]}, r"rewards: found shape \(39, 1\)"),
    (
        lambda d: d | {"next_observations": d["observations"][:, :2]},
        "next_observations: found shape",
    ),
    (lambda d: {k: v[:0] for k, v in d.items()}, "observations: found shape"),
    (spoil("observations", 11, np.nan), "observations: row 11 is not finite"),
    (spoil("next_observations", 12, np.inf), "next_observations: row 12 is not finite"),
    (spoil("rewards", 38, np.nan), "rewards: row 38 is not finite"),
    (spoil("actions", 3, np.nan), "actions: row 3 is not finite"),
    (spoil("actions", 3, 2.0), r"actions: found \[.*, 2\], expected \[-1, 1\].*repair='actions'"),
    (cast("observations", np.float64), "observations: found float64.*repair='float64'"),
    (cast("rewards", np.float64), "rewards: found float64"),
    (cast("actions", "S4"), "actions: found type .*, expected numbers"),
    (lambda d: d | {"actions": d["actions"][:, :0]}, r"actions: found shape \(39, 0\)"),
    (lambda d: d | {"actions": np.float32(0)}, r"actions: found shape \(\), expected \(39, any"),
    (
        lambda d: cast("observations", "S4")({k: v for k, v in d.items() if k != "timeouts"}),
        "observations: found type .*, expected numbers",
    ),
    (flag("terminals", 5, np.nan), "terminals: row 5 is nan, expected 0 or 1"),
    (flag("terminals", 6, 2), "terminals: row 6 is 2.0, expected 0 or 1"),
    (flag("timeouts", 11, -1), "timeouts: row 11 is -1.0, expected 0 or 1"),
    (cast("terminals", "S1"), "terminals: found type .S1, expected 0 or 1"),
    (cast("timeouts", "S1"), "timeouts: found type .S1, expected 0 or 1"),
    (spoil("terminals", 38, False), "timeouts: the episode up to row 38 does not end"),
]


@pytest.mark.parametrize("spoil_fields, message", ERRORS)
def test_bad_files_are_refused_by_file_and_field(path, spoil_fields, message):
    with pytest.raises(UserError, match=f"data.hdf5: {message}"):
        load(path, spoil_fields(synthetic.flat(synthetic.episodes())))


def test_repairs_do_what_the_error_says(path):
    fields = spoil("terminals", 38, False)(synthetic.flat(synthetic.episodes()))
    fields = cast("observations", np.float64)(spoil("actions", 3, 2.0)(fields))
    loaded = load(path, fields, repair=("float64", "actions", "tail"))
    assert loaded.steps.obs.dtype == np.float32
    assert loaded.steps.action.max() == 1
    assert list(iterate(loaded))[-1].discount[-1] == 1  # as at a time limit


def test_one_step_cut_without_successor_is_refused(path):
    fields = synthetic.flat(synthetic.episodes(), successors=False)
    fields["timeouts"][7] = True  # right after the terminal row 6
    with pytest.raises(UserError, match="timeouts: an episode of one row"):
        load(path, fields)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_truncated_files_are_refused(path, share):
    synthetic.write_hdf5(path, synthetic.flat(synthetic.episodes()))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"data.hdf5: .*cannot be read"):
        sources.load(f"d4rl/{path}", 1)


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        sources.load(f"d4rl/{tmp_path}", 1)
