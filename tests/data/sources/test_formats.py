"""The same episodes, whatever they are written as."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxrl.data import sources
from jaxrl.data.episodes import from_episodes
from jaxrl.data.sources import rlds
from jaxrl.errors import UserError
from tests.data import synthetic


def write(kind, directory):
    """Write the synthetic episodes; the name to load them by."""
    data = synthetic.episodes()
    if kind == "d4rl":
        return f"d4rl/{synthetic.write_hdf5(directory / 'x.hdf5', synthetic.flat(data))}"
    if kind == "ogbench":
        return f"ogbench/{synthetic.write_npz(directory / 'x.npz', synthetic.rows(data))}"
    if kind == "minari":
        return f"minari/{synthetic.write_minari(directory / 'x', data)}"
    return f"{kind}/{rlds.write(directory / 'x', data, {})}"


KINDS = ["d4rl", "minari", "tfds", "local", "ogbench"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [1, 3])
def test_every_format_loads_to_the_same_arrays(kind, blocks, tmp_path):
    """Time limits keep discount 1 and their true successor; terminal states have discount 0."""
    loaded = sources.load(write(kind, tmp_path), blocks)
    expected = from_episodes(synthetic.episodes(), blocks)
    assert jax.tree.structure(loaded) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(loaded), jax.tree.leaves(expected), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_transitions_is_known_before_reading(kind, tmp_path):
    source = sources.find(write(kind, tmp_path))
    np.testing.assert_array_equal(source.lengths, synthetic.LENGTHS)
    assert source.spec.obs.shape == (3,)
    assert str(tmp_path) in source.name


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_that_does_not_exist_names_what_is_near(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "/no/such/root")
    name = write(kind, tmp_path)
    near = rf"{tmp_path}/(y\S*): does not exist, expected an? .*: no '\1'; .*: x"
    with pytest.raises(UserError, match=near):
        sources.find(name.replace(f"{tmp_path}/x", f"{tmp_path}/y"))
    with pytest.raises(UserError, match="^/no/such/place.hdf5.*: does not exist; expected an? "):
        sources.find(f"{kind}//no/such/place.hdf5")


@pytest.mark.parametrize(
    "name, message",
    [
        ("hopper", "expected SOURCE/NAME with SOURCE one of jaxrl, local"),
        ("d4rl/", "expected SOURCE/NAME"),
        ("minary/x", "near names: minari"),
        ("jaxrl/pendulum-mixd-v0", "near names: pendulum-mixed-v0"),
        ("tfds/d4rl_mujoco_hopper/v2-medium", "does not exist|prepared under"),
    ],
)
def test_wrong_names_list_the_near_ones(name, message, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=message):
        sources.find(name)


def test_unknown_repairs_are_refused():
    with pytest.raises(UserError, match="repair: no 'float46'; near names: float64"):
        sources.find("jaxrl/pendulum-mixed-v0", repair="float46")


def test_importing_data_imports_no_reader():
    code = (
        "import sys, jaxrl.data.sources, jaxrl.loops.offline; "
        "assert not {'h5py', 'tensorflow_datasets', 'array_record', 'minari'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
