"""An embedded dataset of mixed quality, which needs no download: swinging up the pendulum.

Controllers that pump energy and then balance, whose torque is replaced by a uniform one at some of
the steps. Generated in seconds, the same numbers each time.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.episodes import Put, Source
from jaxrl.envs import pendulum
from jaxrl.errors import unknown_name
from jaxrl.types import Array, Key

RESET, ACT, NOISE, MIX = range(4)  # names of the draws
EPISODES = 480  # of 200 steps; a multiple of eight, so that blocks are equal
# Share of random torques in an episode, and share of episodes
MIXTURE = {0.0: 0.1, 0.3: 0.2, 0.6: 0.3, 1.0: 0.4}
NAMES = {"pendulum-mixed-v0": 0}  # name: seed


def open_source(name: str, repair: frozenset[str] = frozenset()) -> Source:
    """An embedded dataset; the only one is `pendulum-mixed-v0`, 96,000 transitions.

    Raises:
      UserError: an unknown name.
    """
    del repair
    if name not in NAMES:
        raise unknown_name("dataset jaxrl/", name, NAMES)
    lengths = np.full(EPISODES, pendulum.TIME_LIMIT)
    metadata = {"env": "jaxrl/Pendulum-v1", "seed": NAMES[name], "noise": MIXTURE}
    fill = partial(_fill, NAMES[name])
    return Source(f"jaxrl/{name}", pendulum.make().spec, lengths, fill, metadata)


def _fill(seed: int, put: Put) -> None:
    obs, action, reward = generate(jax.random.key(seed), noise(EPISODES))
    rows = np.arange(obs.shape[0] * obs.shape[1]).reshape(obs.shape[:2])
    put("obs", rows, np.asarray(obs))
    put("action", rows[:, :-1], np.asarray(action))
    put("reward", rows[:, :-1], np.asarray(reward))
    put("discount", rows[:, :-1], np.float32(1))  # Pendulum only ends at its time limit


def noise(episodes: int) -> Array:
    """Share of random torques in each of `episodes` episodes, in the proportions of `MIXTURE`."""
    counts = np.round(episodes * np.array(list(MIXTURE.values()))).astype(int)
    return jnp.asarray(np.repeat(np.array(list(MIXTURE)), counts))


@jax.jit
def generate(key: Key, noise: Array) -> tuple[Array, Array, Array]:
    """One episode for each entry of `noise` `[E]`.

    Returns:
      Observations `[E, T + 1, 3]`, actions `[E, T, 1]` and rewards `[E, T]`.
    """
    keys = jax.random.split(key, len(noise))
    return jax.vmap(_episode)(keys, noise)


def _episode(key: Key, noise: Array) -> tuple[Array, Array, Array]:
    state, first = pendulum.reset(jax.random.fold_in(key, RESET))
    key_act = jax.random.fold_in(key, ACT)

    def step(state: pendulum.Pendulum, time: Array) -> tuple:
        key = jax.random.fold_in(key_act, time)
        random = jax.random.uniform(jax.random.fold_in(key, NOISE), (1,), minval=-1.0)
        mixed = jax.random.bernoulli(jax.random.fold_in(key, MIX), noise)
        action = jnp.where(mixed, random, controller(state)[None])
        state, obs, reward, _ = pendulum.dynamics(state, action, key)
        return state, (obs, action, reward)

    rows: tuple = jax.lax.scan(step, state, jnp.arange(pendulum.TIME_LIMIT))[1]
    obs, action, reward = rows
    return jnp.concatenate([first[None], obs]), action, reward


def controller(state: pendulum.Pendulum) -> Array:
    """Balance near the top; elsewhere push along the motion until the energy suffices. []"""
    balance = -6.0 * state.angle - 1.5 * state.velocity
    lacking = state.velocity**2 / 6 + 5.0 * (jnp.cos(state.angle) - 1) < 0  # energy of the top
    along = jnp.where(state.velocity >= 0, 1.0, -1.0)
    pump = jnp.where(lacking, along, -along)
    return jnp.clip(jnp.where(jnp.abs(state.angle) < 0.5, balance, pump), -1.0, 1.0)
