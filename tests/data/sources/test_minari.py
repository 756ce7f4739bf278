import json

import h5py
import numpy as np
import pytest

from jaxrl.data import sources
from jaxrl.data.episodes import from_episodes
from jaxrl.errors import UserError
from tests.data import synthetic


@pytest.fixture
def directory(tmp_path):
    return synthetic.write_minari(tmp_path / "point-v0", synthetic.episodes())


def edit(directory, change):
    with h5py.File(directory / "data" / "main_data.hdf5", "a") as file:
        change(file)


def replace(name, values):
    def change(file):
        del file[name]
        if values is not None:
            file[name] = values

    return change


def test_actions_are_scaled_to_the_unit_box(tmp_path):
    data = synthetic.episodes()
    directory = synthetic.write_minari(tmp_path / "wide", data, low=-2.0, high=6.0)
    loaded, expected = sources.load(f"minari/{directory}", 1), from_episodes(data)
    np.testing.assert_allclose(loaded.steps.action, expected.steps.action, atol=1e-6)


def test_episodes_are_read_in_the_order_of_their_numbers(tmp_path):
    data = synthetic.episodes() * 2  # episode_10 would sort before episode_2
    loaded = sources.load(f"minari/{synthetic.write_minari(tmp_path / 'many', data)}", 1)
    np.testing.assert_array_equal(loaded.steps.obs, from_episodes(data).steps.obs)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_ends_may_be_numbers(directory, dtype):
    def change(file):
        for group in file.values():
            for field in ("terminations", "truncations"):
                values = group[field][()].astype(dtype)
                del group[field]
                group[field] = values

    edit(directory, change)
    loaded, expected = sources.load(f"minari/{directory}", 1), from_episodes(synthetic.episodes())
    np.testing.assert_array_equal(loaded.steps.discount, expected.steps.discount)


def test_dict_observations(directory):
    def change(file):
        for group in file.values():
            obs = group["observations"][()]
            del group["observations"]
            group["observations/goal"], group["observations/place/x"] = obs[:, :1], obs[:, 1:]

    edit(directory, change)
    steps = sources.load(f"minari/{directory}", 1).steps
    expected = from_episodes(synthetic.episodes()).steps.obs
    np.testing.assert_array_equal(steps.obs["goal"], expected[..., :1])
    np.testing.assert_array_equal(steps.obs["place"]["x"], expected[..., 1:])


def test_names_are_looked_up_in_minari_s_directory(directory, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(directory.parent))
    assert sources.load("minari/point-v0", 1).size == sum(synthetic.LENGTHS)
    with pytest.raises(UserError, match="near names: point-v0"):
        sources.load("minari/pint-v0")


def test_what_minari_writes_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import gymnasium
    import minari
    from minari.data_collector import EpisodeBuffer

    data = synthetic.episodes(obs_dim=3, action_dim=1)
    buffers = [
        EpisodeBuffer(
            id=i,
            observations=e.obs,
            actions=2 * e.action,  # Pendulum's torques
            rewards=list(e.reward),
            terminations=list(e.discount == 0),
            truncations=[False] * (len(e.action) - 1) + [bool(e.discount[-1])],
        )
        for i, e in enumerate(data)
    ]
    minari.create_dataset_from_buffers(
        "test/pendulum-v0",
        buffer=buffers,
        env=gymnasium.make("Pendulum-v1"),
        description="synthetic",
        eval_env="Pendulum-v1",
    )
    loaded, expected = sources.load("minari/test/pendulum-v0", 2), from_episodes(data, 2)
    np.testing.assert_allclose(loaded.steps.action, expected.steps.action, atol=1e-6)
    np.testing.assert_array_equal(loaded.steps.obs, expected.steps.obs)
    np.testing.assert_array_equal(loaded.steps.discount, expected.steps.discount)
    assert sources.find("minari/test/pendulum-v0").metadata["env_spec"]


ERRORS = [
    ("rewards", None, "episode_2/rewards: missing"),
    (
        "observations",
        np.zeros((9, 3)),
        r"episode_2/observations: found shape \(9, 3\), expected \(10",
    ),
    ("rewards", np.zeros(8), "episode_2/rewards: found shape"),
    ("observations", np.full((10, 3), np.nan), "episode_2/observations: row 0 is not finite"),
    ("actions", np.full((9, 2), 3.0), "episode_2/actions: found .*expected .-1, 1."),
    ("actions", np.zeros((0, 2)), "episode_2/actions: the episode has no transition"),
    ("actions", np.float32(0), r"episode_2/actions: found shape \(\), expected"),
    ("actions", np.zeros((9, 0)), r"episode_2/actions: found shape \(9, 0\), expected"),
    ("terminations", np.arange(9) == 3, "episode_2/terminations: .* goes on after step 3"),
    ("truncations", np.arange(9) >= 7, "episode_2/truncations: .* goes on after step 7"),
    ("terminations", np.full(9, np.nan), "episode_2/terminations: row 0 is nan, expected 0 or 1"),
    ("truncations", 2 * np.eye(9)[8], "episode_2/truncations: row 8 is 2.0, expected 0 or 1"),
    ("truncations", np.full(9, b"1"), "episode_2/truncations: found type .*, expected 0 or 1"),
    ("truncations", np.zeros(9, bool), "episode_2/truncations: the episode does not end"),
]


@pytest.mark.parametrize("field, values, message", ERRORS)
def test_bad_episodes_are_refused_by_file_and_field(directory, field, values, message):
    edit(directory, replace(f"episode_2/{field}", values))
    with pytest.raises(UserError, match=f"main_data.hdf5: {message}"):
        sources.load(f"minari/{directory}", 1)


def test_text_is_refused_before_it_is_scaled(tmp_path):
    directory = synthetic.write_minari(tmp_path / "wide", synthetic.episodes(), low=-2.0, high=6.0)
    edit(directory, replace("episode_2/actions", np.full((9, 2), b"x")))
    with pytest.raises(UserError, match="main_data.hdf5: episode_2/actions: found type .S1"):
        sources.load(f"minari/{directory}", 1)


def test_groups_instead_of_arrays_are_refused(directory):
    edit(directory, replace("episode_2/rewards", None))
    edit(directory, lambda file: file.create_group("episode_2/rewards"))
    with pytest.raises(UserError, match="main_data.hdf5: episode_2/rewards: found a group"):
        sources.load(f"minari/{directory}", 1)


@pytest.mark.parametrize("name", ["notes/x", "episode_x/y", "episode_9"])
def test_what_is_no_episode_is_refused(directory, name):
    edit(directory, lambda file: file.create_dataset(name, data=0))
    with pytest.raises(UserError, match=f"main_data.hdf5: {name.split('/')[0]}: expected nothing"):
        sources.load(f"minari/{directory}", 1)


def space(low):
    return json.dumps({"type": "Box", "low": low, "high": [1.0] * len(low)})


SPACES = [
    ("{", "cannot be read"),
    ("3", "cannot be read"),
    ('{"type": "Box"}', "cannot be read .'low'"),
    (space([-1.0] * 3), r"found shape \(3,\), expected \(2\)"),
    (space([-2.0] * 3), r"found shape \(3,\), expected \(2\)"),
    (space([-2.0]), r"found shape \(1,\), expected \(2\)"),  # which numpy would broadcast
]


@pytest.mark.parametrize("written, message", SPACES)
def test_bad_action_spaces_are_refused(directory, written, message):
    path = directory / "data" / "metadata.json"
    path.write_text(json.dumps({"action_space": written}))
    with pytest.raises(UserError, match=f"metadata.json: action_space: {message}"):
        sources.load(f"minari/{directory}", 1)


def test_metadata_that_is_no_object_is_refused(directory):
    (directory / "data" / "metadata.json").write_text("[]")
    with pytest.raises(UserError, match="metadata.json: JSON: cannot be read"):
        sources.load(f"minari/{directory}", 1)


def test_episodes_of_different_widths_are_refused(directory):
    edit(directory, replace("episode_2/observations", np.zeros((10, 4))))
    with pytest.raises(UserError, match="main_data.hdf5: episode_2/observations"):
        sources.load(f"minari/{directory}", 1)


def test_arrow_is_refused(tmp_path):
    directory = synthetic.write_minari(tmp_path / "a", synthetic.episodes(), data_format="arrow")
    with pytest.raises(UserError, match="data_format: found 'arrow', expected 'hdf5'"):
        sources.load(f"minari/{directory}", 1)


def test_truncated_files_are_refused(directory):
    path = directory / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="main_data.hdf5: HDF5 file: cannot be read"):
        sources.load(f"minari/{directory}", 1)
