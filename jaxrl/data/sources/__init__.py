"""Datasets by name: `source/...`. Each source has one file, imported when it is asked for."""

import importlib
from collections.abc import Collection

from jaxrl import paths
from jaxrl.data.dataset import Dataset
from jaxrl.data.episodes import Source, assemble
from jaxrl.data.sources.checks import check_repair
from jaxrl.errors import UserError, unknown_name

SOURCES = {
    "jaxrl": "embedded",  # jaxrl/pendulum-mixed-v0, jaxrl/detour-v0
    "local": "rlds",  # local/DIR, as written by `rlds.write`
    "tfds": "rlds",  # tfds/d4rl_mujoco_halfcheetah/v2-medium, or tfds/DIR of any RLDS dataset
    "minari": "minari",  # minari/mujoco/hopper/medium-v0, or minari/DIR
    "d4rl": "d4rl_hdf5",  # d4rl/FILE.hdf5
    "ogbench": "ogbench",  # ogbench/antmaze-large-navigate-v0, or ogbench/FILE.npz
    "pusht": "pusht",  # pusht/pusht_cchi_v7_replay.zarr, or a zip of it
}


def find(name: str, repair: str | Collection[str] = ()) -> Source:
    """The episodes of a dataset, counted and not yet read, and its metadata.

    Args:
      name: `source/...`; what is left of a name after the source may be a path, absolute too.
      repair: what to mend instead of refusing: "float64" rounds where a format has float32,
        "actions" clips to [-1, 1], "tail" ends an unfinished episode as at a time limit.

    Raises:
      UserError: an unknown source or name, with the near ones; a file that cannot be used, naming
        it and its field.
    """
    source, slash, rest = name.partition("/")
    if not slash or not rest:
        known = ", ".join(SOURCES)
        raise UserError(f"dataset: found {name!r}, expected SOURCE/NAME with SOURCE one of {known}")
    if source not in SOURCES:
        raise unknown_name("dataset source", source, SOURCES)
    if paths.remote(rest) and SOURCES[source] != "rlds":
        raise UserError(f"dataset: {name} is in a bucket, where only local/ and tfds/ are read")
    module = importlib.import_module(f"{__name__}.{SOURCES[source]}")
    return module.open_source(rest, check_repair(repair))


def load(name: str, blocks: int = 8, repair: str | Collection[str] = ()) -> Dataset:
    """The whole dataset on the device, in `blocks` blocks of whole episodes.

    Reading takes less than 2.3 times the arrays' size: they are on the host and on the device.

    Raises:
      UserError: as `find`; non-finite numbers; fewer episodes than blocks.
    """
    return assemble(find(name, repair), blocks)
