"""Recording an episode of a policy, in the format that its environment draws."""

import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl import paths
from jaxrl.envs import Env, HostEnv
from jaxrl.errors import UserError
from jaxrl.types import Key, Policy, PyTree, State

START = 2**31 - 1  # the episode recorded starts from this seed


def record(
    env: Env | HostEnv, policy: Policy, state: State, path: str | Path, max_steps: int = 1_000
) -> Path:
    """Play one greedy episode and write it to `path` plus the suffix of its format.

    Raises:
      UserError: the environment cannot be drawn.
    """
    if env.render is None:
        raise UserError("video: this environment cannot be drawn")
    play: Any = _on_host if isinstance(env, HostEnv) else _on_device
    frames = play(env, policy, state, max_steps)
    if not paths.remote(path):
        return env.render(frames, path)
    with tempfile.TemporaryDirectory() as directory:
        written = env.render(frames, Path(directory) / paths.of(path).name)
        target = paths.of(path).with_name(written.name)
        paths.replace(target, written.read_bytes())
    return target


def _on_device(env: Env, policy: Policy, state: State, max_steps: int) -> list[PyTree]:
    """Environment states of one episode."""
    key = jax.random.key(START)
    env_state, obs = jax.jit(env.reset)(jax.random.clone(key))
    memory, reward, last = policy.start(1), np.zeros(1), np.zeros(1, bool)

    @jax.jit
    def step(env_state: PyTree, memory: PyTree, obs: PyTree, reward, last, key: Key):
        batch = jax.tree.map(lambda x: x[None], obs)
        memory, action = policy.step(state, memory, batch, reward, last)
        return memory, env.step(env_state, action[0], key)

    frames = [env_state]
    for time in range(max_steps):
        key_step = jax.random.fold_in(key, time)
        memory, now = step(env_state, memory, obs, reward, last, key_step)
        if now.last:
            break
        env_state, obs = now.state, now.obs
        reward, last = np.asarray(now.reward)[None], np.asarray(now.last)[None]
        frames.append(env_state)
    return frames


def _on_host(env: HostEnv, policy: Policy, state: State, max_steps: int) -> list:
    """Joint positions of one episode."""
    env = HostEnv(env.id)
    obs, memory = env.reset([START]), policy.start(1)
    reward, last = np.zeros(1, np.float32), np.zeros(1, bool)
    act, poses = jax.jit(policy.step), [env.pose()]
    for _ in range(max_steps):
        memory, action = act(state, memory, obs, reward, last)
        obs, reward, _, _, last = env.step(np.asarray(action))
        if last[0]:
            break
        poses.append(env.pose())
    return poses
