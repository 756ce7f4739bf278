"""Stand-ins for networks, whose answers a test can write down."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Module(NamedTuple):
    """A function `(params, *inputs)` in the place of a network."""

    function: Callable[..., Any]

    def apply(self, params, *inputs, rngs=None):
        del rngs
        return self.function(params, *inputs)


class Spy:
    """A network that remembers what it was asked."""

    def __init__(self, module):
        self.module, self.calls = module, []

    def init(self, *args):
        return self.module.init(*args)

    def apply(self, params, *inputs):
        self.calls.append((params, *inputs))
        return self.module.apply(params, *inputs)
