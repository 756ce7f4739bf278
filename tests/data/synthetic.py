"""The same few episodes in every file format."""

import json

import h5py
import numpy as np

from jaxrl.data.episodes import Episode

LENGTHS = (7, 5, 9, 4, 6, 8)
TERMINAL = (True, False, False, True, False, True)  # the others end at a time limit


def episodes(obs_dim=3, action_dim=2):
    """Random numbers, so that any mix-up of rows shows."""
    rng = np.random.default_rng(0)
    return [_episode(rng, n, end, obs_dim, action_dim) for n, end in zip(LENGTHS, TERMINAL)]  # noqa: B905


def _episode(rng, length, terminal, obs_dim, action_dim):
    discount = np.ones(length, np.float32)
    discount[-1] = not terminal
    return Episode(
        obs=rng.normal(size=(length + 1, obs_dim)).astype(np.float32),
        action=rng.uniform(-1, 1, (length, action_dim)).astype(np.float32),
        reward=rng.normal(size=length).astype(np.float32),
        discount=discount,
    )


def flat(data, successors=True, timeouts=True):
    """The fields of a D4RL file."""
    ends = np.concatenate([np.arange(len(e.action)) == len(e.action) - 1 for e in data])
    terminal = np.concatenate([e.discount == 0 for e in data])
    fields = {
        "observations": np.concatenate([e.obs[:-1] for e in data]),
        "actions": np.concatenate([e.action for e in data]),
        "rewards": np.concatenate([e.reward for e in data]),
        "terminals": terminal,
    }
    if successors:
        fields["next_observations"] = np.concatenate([e.obs[1:] for e in data])
    if timeouts:
        fields["timeouts"] = ends & ~terminal
    return fields


def write_hdf5(path, fields):
    with h5py.File(path, "w") as file:
        for name, values in fields.items():
            file[name] = values
    return path


def rows(data):
    """The fields of an OGBench file: T + 1 rows per trajectory, with garbage in the last one."""
    return {
        "observations": np.concatenate([e.obs for e in data]),
        "actions": np.concatenate([np.concatenate([e.action, e.action[-1:]]) for e in data]),
        "rewards": np.concatenate([np.append(e.reward, 99) for e in data]).astype(np.float32),
        "masks": np.concatenate([np.append(e.discount, 1) for e in data]).astype(np.float32),
        "terminals": np.concatenate([np.arange(len(e.obs)) == len(e.action) for e in data]),
    }


def write_npz(path, fields):
    np.savez_compressed(path, **fields)
    return path


def write_minari(directory, data, low=-1.0, high=1.0, data_format="hdf5"):
    """As minari 0.5 writes it: float64 rewards, and here observations too."""
    (directory / "data").mkdir(parents=True)
    n = data[0].action.shape[1]
    space = {"type": "Box", "low": [low] * n, "high": [high] * n, "shape": [n], "dtype": "float32"}
    metadata = {"data_format": data_format, "action_space": json.dumps(space)}
    (directory / "data" / "metadata.json").write_text(json.dumps(metadata))
    with h5py.File(directory / "data" / "main_data.hdf5", "w") as file:
        for i, e in enumerate(data):
            last = np.arange(len(e.action)) == len(e.action) - 1
            file[f"episode_{i}/observations"] = e.obs.astype(np.float64)
            file[f"episode_{i}/actions"] = e.action * (high - low) / 2 + (high + low) / 2
            file[f"episode_{i}/rewards"] = e.reward.astype(np.float64)
            file[f"episode_{i}/terminations"] = e.discount == 0
            file[f"episode_{i}/truncations"] = last & (e.discount == 1)
    return directory
