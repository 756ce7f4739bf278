"""Datasets that need no download: they are generated, in seconds, and are the same each time."""

from jaxrl.data.episodes import Source
from jaxrl.data.sources import detour, pendulum
from jaxrl.errors import unknown_name

MODULES = {"pendulum-mixed-v0": pendulum, "detour-v0": detour}


def open_source(name: str, repair: frozenset[str] = frozenset()) -> Source:
    """An embedded dataset.

    Raises:
      UserError: an unknown name.
    """
    if name not in MODULES:
        raise unknown_name("dataset jaxrl/", name, MODULES)
    return MODULES[name].open_source(name, repair)
