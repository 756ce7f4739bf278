"""An embedded dataset of demonstrations that go two ways: around the obstacle of Detour.

Every start is demonstrated twice with the same noise, once above the obstacle and once below, so
that neither way is preferred and the mean of both goes straight ahead.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.episodes import Put, Source
from jaxrl.envs import detour
from jaxrl.errors import unknown_name
from jaxrl.types import Array, Key

RESET, NOISE = range(2)  # names of the draws
EPISODES = 400  # a multiple of sixteen: blocks are equal, and each start is used twice
LENGTH = 15  # steps of every episode
HEIGHT = 0.75  # of the way beside the obstacle
TURN = 0.3  # where it turns back to the middle
PACE = 0.9  # the action along; that across is at its bound, so a step lost is not made up for
SPREAD = 0.03  # deviation of the noise on the action across
NAMES = {"detour-v0": 0}  # name: seed


def open_source(name: str, repair: frozenset[str] = frozenset()) -> Source:
    """The embedded demonstrations; the only ones are `detour-v0`, 6,000 transitions.

    Raises:
      UserError: an unknown name.
    """
    del repair
    if name not in NAMES:
        raise unknown_name("dataset jaxrl/", name, NAMES)
    metadata = {"env": "jaxrl/detour-v0", "seed": NAMES[name]}
    fill = partial(_fill, NAMES[name])
    return Source(f"jaxrl/{name}", detour.make().spec, np.full(EPISODES, LENGTH), fill, metadata)


def _fill(seed: int, put: Put) -> None:
    obs, action, reward, terminal = generate(jax.random.key(seed), EPISODES)
    rows = np.arange(obs.shape[0] * obs.shape[1]).reshape(obs.shape[:2])
    put("obs", rows, np.asarray(obs))
    put("action", rows[:, :-1], np.asarray(action))
    put("reward", rows[:, :-1], np.asarray(reward))
    put("discount", rows[:, :-1], 1 - np.asarray(terminal, np.float32))


@partial(jax.jit, static_argnums=1)
def generate(key: Key, episodes: int) -> tuple[Array, Array, Array, Array]:
    """`episodes` demonstrations, the two ways from a start one after the other.

    Returns:
      Observations `[E, T + 1, 2]`, actions `[E, T, 2]`, rewards and terminal flags `[E, T]`.
    """
    keys = jnp.repeat(jax.random.split(key, episodes // 2), 2)
    side = jnp.resize(jnp.array([1.0, -1.0]), (episodes,))
    return jax.vmap(_episode)(keys, side)


def _episode(key: Key, side: Array) -> tuple[Array, Array, Array, Array]:
    state, first = detour.reset(jax.random.fold_in(key, RESET))
    noise = SPREAD * jax.random.normal(jax.random.fold_in(key, NOISE), (LENGTH,))

    def step(state: Array, noise: Array) -> tuple:
        action = controller(state, side, noise)
        state, obs, reward, terminal = detour.dynamics(state, action, key)
        return state, (obs, action, reward, terminal)

    rows: tuple = jax.lax.scan(step, state, noise)[1]
    obs, *rest = rows
    return jnp.concatenate([first[None], obs]), *rest


def controller(position: Array, side: Array, noise: Array) -> Array:
    """Climb at full speed to a height beside the obstacle, pass it, and return to the middle. [2]

    Args:
      side: 1 above the obstacle, -1 below.
      noise: added to the action across.
    """
    height = jnp.where(position[0] < TURN, side * HEIGHT, 0)
    across = (height - position[1]) / detour.SPEED + noise
    return jnp.clip(jnp.stack([jnp.full_like(across, PACE), across]), -1, 1)
