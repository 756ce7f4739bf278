import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxrl.data import sources
from jaxrl.data.episodes import from_episodes, iterate
from jaxrl.data.sources import records, rlds
from jaxrl.errors import UserError
from tests.data import synthetic


@pytest.fixture
def directory(tmp_path):
    return rlds.write(
        tmp_path / "x", synthetic.episodes(), {"env": "gymnasium/Hopper-v5", "seed": 3}
    )


def edit_json(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def rename(directory, name):
    """Make it a dataset of another builder."""
    edit_json(directory / "dataset_info.json", lambda info: info | {"name": name})
    for path in directory.glob("jaxrl-*"):
        path.rename(directory / path.name.replace("jaxrl", name))
    return directory


def as_tfrecord(directory):
    """The same records, in TensorFlow's own format."""
    (path,) = directory.glob("*.array_record*")
    framed = [
        struct.pack("<Q", len(r)) + b"0000" + r + b"0000" for r in map(bytes, records.read(path))
    ]
    target = path.with_name(path.name.replace("array_record", "tfrecord"))
    target.write_bytes(b"".join(framed))
    path.unlink()

    def change(info):
        for split in info["splits"]:
            split["filepathTemplate"] = split["filepathTemplate"].replace(
                "array_record", "tfrecord"
            )
        return info | {"fileFormat": "tfrecord"}

    edit_json(directory / "dataset_info.json", change)
    return target


def test_tensorflow_datasets_reads_what_we_write(directory):
    builder = tfds.builder_from_directory(directory)
    assert builder.info.metadata["env"] == "gymnasium/Hopper-v5"
    source = builder.as_data_source(split="train")
    assert len(source) == 6
    for example, episode, end in zip(source, synthetic.episodes(), synthetic.TERMINAL, strict=True):
        steps = list(example["steps"])
        np.testing.assert_array_equal([s["observation"] for s in steps], episode.obs)
        np.testing.assert_array_equal([s["reward"] for s in steps[:-1]], episode.reward)
        assert [s["is_first"] for s in steps] == [True] + [False] * len(episode.action)
        assert [s["is_last"] for s in steps] == [False] * len(episode.action) + [True]
        assert steps[-1]["is_terminal"] == end
        assert not any(s["is_terminal"] for s in steps[:-1])


def test_metadata_comes_back(directory):
    metadata = sources.find(f"local/{directory}").metadata
    assert metadata["env"] == "gymnasium/Hopper-v5"
    assert metadata["seed"] == 3


def test_tfrecord_files_are_read_without_tensorflow(directory):
    as_tfrecord(directory)
    loaded = sources.load(f"tfds/{directory}", 1)
    np.testing.assert_array_equal(loaded.steps.obs, from_episodes(synthetic.episodes()).steps.obs)
    code = (
        f"import sys; from jaxrl.data import sources; sources.load('tfds/{directory}', 1); "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_d4rl_s_wrong_final_observation_is_dropped(tmp_path):
    """The builders end every episode with the last successor of the whole file."""
    data = synthetic.episodes()
    wrong = np.full((1, 3), 999.5, np.float32)
    spoiled = [e._replace(obs=np.concatenate([e.obs[:-1], wrong])) for e in data]
    directory = rlds.write(tmp_path / "x", spoiled, {})
    loaded = list(iterate(sources.load(f"tfds/{rename(directory, 'd4rl_mujoco_hopper')}", 1)))
    for found, true, terminal in zip(loaded, data, synthetic.TERMINAL, strict=True):
        n = len(true.action) if terminal else len(true.action) - 1
        np.testing.assert_array_equal(found.action, true.action[:n])
        if not terminal:  # the only place where it would have been used
            np.testing.assert_array_equal(found.obs, true.obs[: n + 1])
        np.testing.assert_array_equal(found.discount, true.discount[:n])


def test_other_builders_keep_their_last_transition(directory):
    loaded = sources.load(f"tfds/{rename(directory, 'robosuite')}", 1)
    assert loaded.size == sum(synthetic.LENGTHS)


def test_a_field_named_discount_may_hold_gamma(tmp_path):
    data = [e._replace(discount=0.5 * e.discount) for e in synthetic.episodes()]
    directory = rlds.write(tmp_path / "x", data, {})
    np.testing.assert_array_equal(
        np.unique(sources.load(f"local/{directory}", 1).steps.discount), [0, 0.5]
    )
    renamed = sources.load(f"tfds/{rename(directory, 'robosuite')}", 1)
    assert set(np.unique(renamed.steps.discount)) == {0, 1}


def test_dict_observations_and_discrete_actions(tmp_path):
    data = [
        e._replace(
            obs={"pixels": np.zeros((len(e.obs), 4, 4, 1), np.uint8), "x": e.obs},
            action=np.arange(len(e.action)) % 3,
        )
        for e in synthetic.episodes()
    ]
    directory = rlds.write(tmp_path / "x", data, {}, num_actions=5)
    spec = sources.load(f"local/{directory}", 2).spec
    assert spec.num_actions == 5
    assert spec.obs["pixels"].dtype == np.uint8
    assert spec.obs["pixels"].shape == (4, 4, 1)


def test_names_are_looked_up_with_their_newest_version(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for version in ("1.9.0", "1.10.0"):
        path = tmp_path / "some_set" / "v2-medium" / version
        rlds.write(path, synthetic.episodes(), {"version": version})
    assert sources.find("tfds/some_set/v2-medium").metadata["version"] == "1.10.0"
    with pytest.raises(UserError, match="near names: some_set/v2-medium"):
        sources.find("tfds/some_set/v2-medum")


def test_write_refuses_what_exists_and_leaves_nothing_behind(directory, tmp_path):
    with pytest.raises(UserError, match="exists, expected a new directory"):
        rlds.write(directory, synthetic.episodes(), {})
    with pytest.raises(UserError, match="found none"):
        rlds.write(tmp_path / "empty", [], {})
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def with_steps(monkeypatch, change):
    """Write steps that are not as RLDS wants them."""
    original = rlds._steps
    monkeypatch.setattr(rlds, "_steps", lambda episode: change(original(episode)))


ERRORS = [
    (
        lambda s: {k: v for k, v in s.items() if k != "is_terminal"},
        "is_terminal: missing; .* action",
    ),
    (
        lambda s: s | {"is_last": np.zeros_like(s["is_last"])},
        "steps/is_last of episode 0: .*not end",
    ),
    (
        lambda s: s | {"is_last": np.ones_like(s["is_last"])},
        "steps/is_last of episode 0: .*goes on",
    ),
    (lambda s: {k: v[:1] for k, v in s.items()}, "steps/is_last of episode 0: .*no transition"),
    (
        lambda s: s | {"reward": s["reward"] * np.nan},
        "steps/reward of episode 0: row 0 is not finite",
    ),
    (lambda s: s | {"action": s["action"] * 5}, "steps/action of episode 0: found"),
    (
        lambda s: s | {"reward": np.stack([s["reward"]] * 2, 1)},
        r"steps/reward of episode 0: found shape \(8, 2\), expected \(8\)",
    ),
    (
        lambda s: s | {"observation": s["observation"][1:]},
        r"steps/observation of episode 0: found shape \(7, 3\), expected \(8, 3\)",
    ),
    (
        lambda s: s | {"is_terminal": s["is_terminal"][:, None]},
        r"steps/is_terminal of episode 0: found shape \(8, 1\), expected \(8\)",
    ),
    (
        lambda s: s | {"discount": s["discount"][1:]},
        r"steps/discount of episode 0: found shape \(7,\), expected \(8\)",
    ),
    (
        lambda s: {k: v for k, v in s.items() if k != "discount"},
        "discount: missing; .* action",
    ),
    (
        lambda s: s | {"is_terminal": np.arange(len(s["reward"])) >= 3},
        "steps/is_terminal of episode 0: the episode goes on after step 3",
    ),
    (
        lambda s: s | {"is_terminal": 2 * s["is_terminal"].astype(np.int32)},
        "steps/is_terminal of episode 0: row 7 is 2, expected 0 or 1",
    ),
    (
        lambda s: s | {"is_last": np.where(s["is_last"], 1, np.float32(np.nan))},
        "steps/is_last of episode 0: row 0 is nan, expected 0 or 1",
    ),
]


@pytest.mark.parametrize("change, message", ERRORS)
def test_bad_episodes_are_refused_by_directory_and_field(tmp_path, monkeypatch, change, message):
    with_steps(monkeypatch, change)
    directory = rlds.write(tmp_path / "x", synthetic.episodes(), {})
    with pytest.raises(UserError, match=f"{directory}: {message}"):
        sources.load(f"local/{directory}", 1)


@pytest.mark.parametrize("tfrecord", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_files_are_refused(directory, tfrecord, share):
    (path,) = [as_tfrecord(directory)] if tfrecord else directory.glob("*.array_record*")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=str(directory)):
        sources.load(f"tfds/{directory}", 1)


def test_a_directory_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"dataset_info.json: missing"):
        sources.load(f"local/{tmp_path}")
