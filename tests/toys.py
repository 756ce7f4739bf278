"""Tiny tasks with known answers, for conformance and learning checks of offline agents."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Agent, Key, Spec, State, Transition

FORK = Spec.continuous(3, 1)
A, B, M, END = np.eye(4, 3)  # one-hot states; the end is a row of zeros


def fork_stitch(seed: int = 0, trajectories: int = 2000, scale: float = 1.0) -> Transition:
    """Data in which no trajectory from A scores above 0.3, although 1 can be stitched together.

    A: a >= 0 leads to M, a < 0 ends with 0.3. B: always to M. M: a >= 0 ends with 1, a < 0 with 0.
    45 % of the trajectories are (A +, M -), 45 % (A -) and 10 % (B, M +). Rewards times `scale`.
    """
    rng = np.random.default_rng(seed)
    kinds = [round(share * trajectories) for share in (0.45, 0.45, 0.10)]
    either = rng.choice([-1.0, 1.0], kinds[2])
    ones = [np.ones(n) for n in kinds]
    rows = [
        _rows(rng, A, ones[0], 0.0, M),
        _rows(rng, M, -ones[0], 0.0, END),
        _rows(rng, A, -ones[1], 0.3, END),
        _rows(rng, B, either, 0.0, M),
        _rows(rng, M, ones[2], 1.0, END),
    ]
    data = jax.tree.map(lambda *x: jnp.asarray(np.concatenate(x)), *rows)
    return data._replace(reward=scale * data.reward)


def _rows(rng, state, sign, reward: float, successor) -> Transition:
    n = len(sign)
    action = (sign * np.abs(rng.normal(0.7, 0.1, n))).clip(-1, 1)[:, None]
    last = np.full(n, not successor.any())
    fields = np.tile(state, (n, 1)), action, np.full(n, reward), 1.0 - last, successor
    obs, action, reward, discount, successor = (np.asarray(x, np.float32) for x in fields)
    return Transition(obs, action, reward, discount, np.tile(successor, (n, 1)), last)


def fork_return(agent: Agent, state: State) -> float:
    """Return of the deterministic policy from A, in raw rewards: 0, 0.3 or 1."""
    at_a, at_m = (float(agent.act(state, jnp.asarray(s[None], jnp.float32))[0, 0]) for s in (A, M))
    return 0.3 if at_a < 0 else float(at_m >= 0)


def train(agent: Agent, data: Transition, keys: Key, steps: int, batch_size: int) -> State:
    """The states of `len(keys)` runs after `steps` updates on rows drawn uniformly."""

    def update(run, i):
        state, key = run
        key_rows, key_update = jax.random.split(jax.random.fold_in(key, i))
        rows = jax.random.randint(key_rows, (batch_size,), 0, len(data.reward))
        batch = jax.tree.map(lambda x: x[rows], data)
        return (agent.update(state, batch, key_update)[0], key), None

    @jax.jit
    def run(key):
        key_init, key = jax.random.split(key)
        (state, _), _ = jax.lax.scan(update, (agent.init(key_init), key), jnp.arange(steps))
        return state

    return [run(key) for key in keys]
