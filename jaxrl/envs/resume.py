"""Saving and rebuilding Gymnasium environments, to the bit where the simulator is MuJoCo."""

from typing import Any

import numpy as np

# Tasks whose whole state is MuJoCo's: nothing else is carried from one step to the next.
EXACT = frozenset(
    ["Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "HumanoidStandup-v5"]
    + ["InvertedDoublePendulum-v5", "InvertedPendulum-v5", "Pusher-v5", "Reacher-v5"]
    + ["Swimmer-v5", "Walker2d-v5"]
)
WORD = 64  # bits


class Recorder:
    """Follows one environment, so that it can be saved at any time and rebuilt elsewhere.

    MuJoCo's current state does not suffice: Ant and Humanoid observe quantities that a step
    derives on its way. So the state from *before* the last step is kept with that step's action,
    and a rebuild restores the one and repeats the other. After a reset, before any step, the
    positions and velocities of the reset are enough.
    """

    def __init__(self, env: Any, exact: bool):
        self._env = env
        self._limit = _find_time_limit(env)
        self._exact = exact
        if exact:
            self._physics = np.zeros(_mujoco_state_size(env.unwrapped.model))
            self._action = np.zeros(env.action_space.shape, env.action_space.dtype)
            self._fresh = True  # no step since the last reset

    def before_step(self, action: Any) -> None:
        """To be called before each `env.step(action)`."""
        if self._exact:
            _get_state(self._env.unwrapped, self._physics)
            self._action[:] = action
            self._fresh = False

    def after_reset(self) -> None:
        """To be called after each `env.reset()`."""
        if self._exact:
            _get_state(self._env.unwrapped, self._physics)
            self._fresh = True

    def save(self) -> dict[str, np.ndarray]:
        """Arrays of fixed shapes. Keep them in NumPy: jax would cut their 64 bits to 32."""
        tree = {"generator": generator_words(self._env.unwrapped.np_random)}
        if self._exact:
            elapsed = self._limit._elapsed_steps if self._limit else 0
            tree["elapsed"] = np.array(elapsed, np.int64)
            tree["physics"] = self._physics.copy()
            tree["action"] = self._action.copy()
            tree["fresh"] = np.array(self._fresh)
        return tree

    def load(self, tree: dict[str, np.ndarray]) -> Any:
        """Rebuild the saved environment, or start an episode from its generator; returns `obs`."""
        unwrapped = self._env.unwrapped
        set_generator(unwrapped.np_random, tree["generator"])
        obs, _ = self._env.reset()  # also readies the wrappers
        self.after_reset()
        if not self._exact:
            return obs
        set_generator(unwrapped.np_random, tree["generator"])
        self._physics[:], self._action[:] = tree["physics"], tree["action"]
        self._fresh = bool(tree["fresh"])
        if self._limit:
            self._limit._elapsed_steps = int(tree["elapsed"])
        return self._replay(unwrapped)

    def _replay(self, env: Any) -> Any:
        import mujoco

        mujoco.mj_resetData(env.model, env.data)
        mujoco.mj_setState(env.model, env.data, self._physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        if not self._fresh:
            return env.step(self._action)[0]
        qpos, qvel = env.data.qpos.copy(), env.data.qvel.copy()
        mujoco.mj_resetData(env.model, env.data)  # as `reset` does, without its warm start
        env.set_state(qpos, qvel)
        return env._get_obs()


def generator_words(generator: np.random.Generator) -> np.ndarray:
    """State of a PCG64 generator as `[6]` uint64: two 128-bit integers in halves, two fields."""
    state = generator.bit_generator.state
    pair = state["state"]["state"], state["state"]["inc"]
    halves = [half for number in pair for half in divmod(number, 1 << WORD)]
    return np.array([*halves, state["has_uint32"], state["uinteger"]], np.uint64)


def set_generator(generator: np.random.Generator, words: np.ndarray) -> None:
    """The inverse of `generator_words`, in place."""
    high, low, inc_high, inc_low, has_uint32, uinteger = (int(word) for word in words)
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": (high << WORD) + low, "inc": (inc_high << WORD) + inc_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }


def _find_time_limit(env: Any) -> Any:
    while env is not env.unwrapped:
        if hasattr(env, "_elapsed_steps"):
            return env
        env = env.env
    return None


def _mujoco_state_size(model: Any) -> int:
    import mujoco

    return mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION)


def _get_state(env: Any, out: np.ndarray) -> None:
    import mujoco

    mujoco.mj_getState(env.model, env.data, out, mujoco.mjtState.mjSTATE_INTEGRATION)
