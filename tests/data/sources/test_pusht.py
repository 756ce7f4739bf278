"""Push-T's published demonstrations: a small store in their format."""

import shutil

import numpy as np
import pytest

from jaxrl.data import sources
from jaxrl.data.dataset import extents
from jaxrl.errors import UserError

zarr = pytest.importorskip("zarr")

LENGTHS = (5, 2, 7)  # rows; the last of each is no transition
ROWS = sum(LENGTHS)


def fields():
    rng = np.random.default_rng(0)
    return {
        "data/state": rng.uniform(0, 512, (ROWS, 5)).astype(np.float32),
        "data/action": rng.uniform(0, 512, (ROWS, 2)).astype(np.float32),
        "data/keypoint": rng.uniform(0, 512, (ROWS, 9, 2)).astype(np.float32),
        "meta/episode_ends": np.cumsum(LENGTHS),
    }


@pytest.fixture
def write(tmp_path):
    """Write a store as the published one is: version 2 of the format, compressed with Blosc."""

    def written(fields, name="pusht.zarr"):
        root = zarr.open_group(tmp_path / name, mode="w", zarr_format=2)
        for field, values in fields.items():
            root.create_array(field, data=values, chunks=(4, *values.shape[1:]))
        return tmp_path / name

    return written


def zipped(directory, inner):
    """A zip of a store, which is in it under `inner`."""
    place = directory.parent / "packed" / inner
    shutil.copytree(directory, place)
    return shutil.make_archive(str(directory.parent / "pusht"), "zip", directory.parent / "packed")


def loaded(path):
    return sources.load(f"pusht/{path}", 1)


def check(dataset, data):
    last = np.zeros(ROWS, bool)
    last[np.cumsum(LENGTHS) - 1] = True
    np.testing.assert_array_equal(dataset.steps.last[0], last)
    np.testing.assert_array_equal(dataset.steps.obs[0], data["data/state"])
    expected = data["data/action"][~last] / 256 - 1
    np.testing.assert_allclose(dataset.steps.action[0][~last], expected, rtol=1e-6)
    assert (np.asarray(dataset.steps.discount[0])[~last] == 1).all()
    assert not dataset.steps.reward.any()


def test_rows_become_transitions_but_for_the_last_of_each_episode(write):
    dataset = loaded(write(fields()))
    check(dataset, fields())
    np.testing.assert_array_equal(sorted(extents(dataset)[2]), sorted(n - 1 for n in LENGTHS))


@pytest.mark.parametrize("inner", [".", "pusht/pusht_cchi_v7_replay.zarr"])
def test_a_zip_may_hold_the_store_in_a_directory(write, inner):
    check(loaded(zipped(write(fields()), inner)), fields())


def test_the_actions_reach_from_edge_to_edge(write):
    data = fields()
    data["data/action"][:2] = [[0, 512], [256, 128]]
    dataset = loaded(write(data))
    np.testing.assert_array_equal(dataset.steps.action[0, :2], [[-1, 1], [0, -0.5]])


def test_it_is_scored_by_the_best_reward_of_an_episode(write):
    env = sources.find(f"pusht/{write(fields())}").metadata["env"]
    assert env == "gymnasium/gym_pusht/PushT-v0?return=best"


def without(data, field):
    return {k: v for k, v in data.items() if k != field}


def nan(data):
    data["data/state"][3, 1] = np.nan
    return data


def late(data):
    data["data/action"][8, 1] = np.nan
    return data


STATE, ACTION, ENDS = "data/state", "data/action", "meta/episode_ends"
ERRORS = [
    (lambda d: without(d, ACTION), f"{ACTION}: missing; the file has data/keypoint"),
    (lambda d: without(d, ENDS), f"{ENDS}: missing"),
    (lambda d: d | {STATE: d[STATE][:, :4]}, f"{STATE}: found shape .*14, 4.*, expected .14, 5"),
    (lambda d: d | {ACTION: d[ACTION][1:]}, f"{ACTION}: found shape .13, 2., expected .14, 2"),
    (lambda d: d | {ENDS: d[ENDS] - 1}, f"{ENDS}: found ends .13., expected 14, the rows"),
    (lambda d: d | {ENDS: np.array([5, 6, 14])}, f"{ENDS}: episode 1 has 1 rows, expected 2"),
    (nan, f"{STATE}: row 3 is not finite"),
    (late, f"{ACTION}: row 8 is not finite"),  # of the file, two rows of which are no transition
    (lambda d: d | {ACTION: d[ACTION] + 512}, f"{ACTION}: found .*repair='actions'"),
    (lambda d: d | {STATE: np.full((ROWS, 5), "x", "U1")}, f"{STATE}: found type"),
]


@pytest.mark.parametrize("spoil, message", ERRORS)
def test_bad_stores_are_refused_by_file_and_field(write, spoil, message):
    path = write(spoil(fields()))
    with pytest.raises(UserError, match=f"pusht.zarr: {message}"):
        loaded(path)


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "x.zip").write_text("no zip")
    for name, message in (("y", "does not exist"), ("x.zip", "zarr store: cannot be read")):
        with pytest.raises(UserError, match=message):
            loaded(tmp_path / name)
    with pytest.raises(UserError, match="zarr store: cannot be read"):
        loaded(tmp_path)
