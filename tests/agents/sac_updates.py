"""SAC with plain gradient descent, so that one update can be written out by hand."""

from functools import cache, partial

import jax
import optax

from jaxrl.agents import sac
from tests.agents.catalog import FLAT, transitions

RATE = 0.1
CONFIG = sac.Config(hidden=(16, 16), gamma=0.9)


@cache
def batch_of(seed):
    return transitions(FLAT, jax.random.fold_in(jax.random.key(7), seed))


def begin(config=CONFIG, spec=FLAT, **replaced):
    """Networks with plain gradient descent, some of them replaced, and their first state."""
    networks = sac.build(spec, config)._replace(optimizer=optax.sgd(RATE), **replaced)
    return networks, jax.jit(partial(sac.init, networks, spec, config))(jax.random.key(1))


def updated(networks, config, state, batch):
    """The state and the metrics after one update."""
    return jax.jit(partial(sac.update, networks, config))(state, batch, jax.random.key(2))


@cache
def plain():
    """The default networks, their first state, and the compiled update."""
    networks, state = begin()
    return networks, state, jax.jit(partial(sac.update, networks, CONFIG))
