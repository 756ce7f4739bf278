"""From an agent to something that can be rolled out: `Policy(start, step)`."""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import check_range
from jaxrl.ops import rows
from jaxrl.types import Agent, Array, Key, Policy, PyTree, Segment, Spec, State


def memoryless(agent: Agent) -> Policy:
    """Acts on the present observation alone."""

    def step(state, memory, obs, reward, last, key=None):
        del reward, last
        return memory, agent.act(state, obs, key)

    return Policy(start=lambda n: (), step=step)


def squashed(policy: Policy) -> Policy:
    """The policy of an agent that acts before tanh, in actions after it."""

    def step(*args, **options):
        memory, action = policy.step(*args, **options)
        return memory, jnp.tanh(action)

    return policy._replace(step=step)


def windowed(
    agent: Agent, spec: Spec, context: int, target: float | Array, spend: bool = True
) -> Policy:
    """Acts on the last `context` steps of the episode and on the return that is left to reach.

    Its memory is the window, a `Segment` `[n, K]` that is padded on the left.

    Args:
      target: return to ask for, in units of the rewards; given several `[M]`, episode i asks for
        number i mod M, so that one evaluation tries all of them.
      spend: subtract every reward from what is left; else the target stays (delayed rewards).
    """
    start = partial(Segment.empty, spec, length=context)
    return Policy(start=lambda n: start(batch=n), step=partial(_in_window, agent, target, spend))


def _in_window(
    agent: Agent,
    target: float | Array,
    spend: bool,
    state: State,
    memory: Segment,
    obs: PyTree,
    reward: Array,
    last: Array,
    key: Key | None = None,
) -> tuple[Segment, Array]:
    """Add a step, act, and remember the action. `reward` and `last` belong to the step before."""
    memory = memory._replace(reward=_put(memory.reward, reward))
    going = memory.mask[:, -1] & ~last
    left = memory.return_to_go[:, -1] - (reward if spend else 0)
    new = Segment(
        obs=obs,
        action=jnp.zeros_like(memory.action[:, -1]),
        reward=jnp.zeros_like(memory.reward[:, -1]),
        discount=jnp.ones_like(memory.discount[:, -1]),
        mask=jnp.ones_like(going),
        timestep=jnp.where(going, memory.timestep[:, -1] + 1, 0),
        return_to_go=jnp.where(going, left, jnp.resize(jnp.asarray(target), going.shape)),
    )
    memory = memory._replace(mask=memory.mask & going[:, None])
    memory = jax.tree.map(_push, memory, new)
    action = agent.act(state, memory, key)
    return memory._replace(action=_put(memory.action, action)), action


class Chunk(NamedTuple):
    """What is left of a plan, and what the next one will be made from."""

    obs: PyTree  # [n, To, *obs_shape], the newest last
    action: Array  # [n, Ta, A]
    played: Array  # [n] int32, actions of the plan; beyond Ta there was none yet


def chunked(
    agent: Agent,
    spec: Spec,
    obs_horizon: int,
    action_horizon: int,
    goal: Array | None = None,
) -> Policy:
    """Executes `action_horizon` actions of each plan, and then makes a new one.

    `agent.act` is given the last `obs_horizon` observations `[n, To, ...]`, the first of an episode
    repeated in the place of those before it, and returns `[n, Ta, A]`. A step at which no episode
    needs a plan costs nothing.

    Args:
      goal: what every episode is asked to reach `[G]`, for an agent that takes goals.
    """
    rest = {} if goal is None else {"goal": goal}
    start = partial(_no_plan, spec, obs_horizon, action_horizon)
    return Policy(start=start, step=partial(_in_chunk, agent, rest))


def _no_plan(spec: Spec, obs_horizon: int, action_horizon: int, n: int) -> Chunk:
    def zeros(s: jax.ShapeDtypeStruct, steps: int) -> Array:
        return jnp.zeros((n, steps, *s.shape), jax.dtypes.canonicalize_dtype(s.dtype))

    obs = jax.tree.map(lambda s: zeros(s, obs_horizon), spec.obs)
    return Chunk(obs, zeros(spec.action, action_horizon), jnp.full(n, action_horizon + 1))


def _in_chunk(
    agent: Agent,
    goal: dict[str, Array],
    state: State,
    memory: Chunk,
    obs: PyTree,
    reward: Array,
    last: Array,
    key: Key | None = None,
) -> tuple[Chunk, Array]:
    """Plan where the plan has been played, or the episode is new; then play one action."""
    length = memory.action.shape[1]
    new = last | (memory.played > length)
    due = new | (memory.played == length)
    stack = jax.tree.map(partial(_stacked, new), memory.obs, obs)

    def plan() -> Array:
        goals = {k: jnp.broadcast_to(x[None], (len(due), *x.shape)) for k, x in goal.items()}
        planned = agent.act(state, stack, key, **goals).astype(memory.action.dtype)
        return jnp.where(due[:, None, None], planned, memory.action)

    action = jax.lax.cond(due.any(), plan, lambda: memory.action)
    played = jnp.where(due, 0, memory.played)
    now = jnp.take_along_axis(action, played[:, None, None], 1)[:, 0]
    return Chunk(stack, action, played + 1), now


def _stacked(new: Array, stack: Array, obs: Array) -> Array:
    """`stack` `[n, To, ...]` with `obs` `[n, ...]` at its end, or everywhere where `new` `[n]`."""
    everywhere = jnp.broadcast_to(jnp.asarray(obs, stack.dtype)[:, None], stack.shape)
    new = new.reshape(-1, *(1,) * (stack.ndim - 1))
    return jnp.where(new, everywhere, _push(stack, obs))


Score = Callable[[State, PyTree, Array], Array]  # state, obs [B, ...], actions [B, A] -> [B]
PROPOSE, PICK = range(2)  # names of the draws


def reranked(agent: Agent, score: Score, candidates: int, temperature: float = 0.0) -> Policy:
    """Draws `candidates` actions in every state and executes one of high score.

    IDQL (arXiv:2304.10573) takes the best under the target critics, Diffusion-QL samples from a
    softmax of them. Any agent and any score of its actions will do.

    Args:
      temperature: of the softmax over candidates; 0 takes the best.
    """
    check_range("candidates", candidates, 1)
    check_range("temperature", temperature, 0)

    def step(state, memory, obs, reward, last, key=None):
        del reward, last
        key = jax.random.key(0) if key is None else key
        many = rows.flat(rows.repeat(obs, candidates))
        action = agent.act(state, many, jax.random.fold_in(key, PROPOSE))
        value = score(state, many, action).reshape(-1, candidates)
        chosen = _choose(value, temperature, jax.random.fold_in(key, PICK))
        action = action.reshape(-1, candidates, *action.shape[1:])
        return memory, jnp.take_along_axis(action, chosen[:, None, None], 1)[:, 0]

    return Policy(start=lambda n: (), step=step)


def _choose(value: Array, temperature: float, key: Key) -> Array:
    """A column of `value` `[B, N]` for every row. [B]"""
    if temperature == 0:
        return value.argmax(1)
    return jax.random.categorical(key, value / temperature)


def own(
    agent: Agent,
    algorithm: ModuleType,
    spec: Spec,
    config: Any,
    see: Callable[[PyTree], PyTree] = lambda obs: obs,
) -> Policy:
    """The policy that belongs to an agent: chunks, reranked draws, or `act` as it is.

    Args:
      see: what is done to an observation before its candidates are scored.
    """
    if hasattr(config, "action_horizon"):
        return chunked(agent, spec, config.obs_horizon, config.action_horizon)
    if not hasattr(algorithm, "scorer"):
        return memoryless(agent)
    score = algorithm.scorer(spec, config)

    def seen(state: State, obs: PyTree, action: Array) -> Array:
        return score(state, see(obs), action)

    return reranked(agent, seen, config.candidates, config.temperature)


def _put(x: Array, last: Array) -> Array:
    """`x` `[n, K, ...]` with its last step replaced."""
    return x.at[:, -1].set(jnp.asarray(last, x.dtype))


def _push(x: Array, new: Array) -> Array:
    """`x` `[n, K, ...]` without its first step and with a new one at the end."""
    return jnp.concatenate([x[:, 1:], jnp.asarray(new, x.dtype)[:, None]], axis=1)
