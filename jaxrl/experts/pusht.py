"""A scripted expert for Push-T, which looks ahead in gym-pusht's own physics.

It plans one push at a time: every push of a fixed set is tried from where it begins, the most
promising are tried again with the way there, and that which gains most per step is executed.
Positions and actions are in pixels.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxrl.data.episodes import Episode
from jaxrl.data.sources.pusht import ENV, SIZE
from jaxrl.envs import HostEnv
from jaxrl.errors import require
from jaxrl.experts import tee

TASKS = {"state": ENV, "keypoints": f"{ENV}&obs_type=environment_state_agent_pos"}
TRAVEL, PUSH = 20.0, 10.0  # what the target moves by in a step, on the way and in contact
REACH = 14  # steps of a push that are looked at
WAIT = 3  # steps at the end of a way and of a push, in which the agent reaches its target
TRIED = 10  # pushes that are tried with the way there
OVERHEAD = 6  # steps added to a plan's when plans are compared, in favour of long pushes


class State(NamedTuple):
    """What the physics depends on."""

    agent: np.ndarray  # [2]
    velocity: np.ndarray  # [2] of the agent; the block is still where nothing pushes it
    pose: np.ndarray  # [3] of the block: position and angle


def state_of(env: Any) -> State:
    """The state of a `PushTEnv`."""
    pose = np.array([*env.block.position, env.block.angle])
    return State(np.array(env.agent.position), np.array(env.agent.velocity), pose)


class Model:
    """The physics, which can be set to any state."""

    def __init__(self):
        module: Any = require("gym_pusht.envs.pusht", "pusht", "the expert for Push-T")
        self._env, self._pymunk = module.PushTEnv(), module.pymunk
        self._env.reset(seed=0)

    def set(self, state: State) -> None:
        """Go to a state."""
        env = self._env
        env.agent.position, env.agent.velocity = tuple(state.agent), tuple(state.velocity)
        env.block.angle = state.pose[2]  # first: it turns the block about its centre of gravity
        env.block.position = tuple(state.pose[:2])
        env.block.velocity, env.block.angular_velocity = (0, 0), 0
        for body in (env.agent, env.block):
            env.space.reindex_shapes_for_body(body)

    def play(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `PushTEnv.step` does with targets `[T, 2]`, without its reward.

        Returns:
          Positions of the agent `[T, 2]` and poses of the block `[T, 3]`.
        """
        env, agents, poses = self._env, [], []
        for target in targets:
            for _ in range(round(1 / (env.dt * env.control_hz))):
                pull = env.k_p * (self._pymunk.Vec2d(*target) - env.agent.position)
                env.agent.velocity += (pull - env.k_v * env.agent.velocity) * env.dt
                env.space.step(env.dt)
            agents.append(env.agent.position)
            poses.append((*env.block.position, env.block.angle))
        return np.array(agents), np.array(poses)

    def free(self, a: np.ndarray, b: np.ndarray, gap: float = 2.0) -> bool:
        """Whether the agent can go straight from `a` to `b` without touching the block."""
        size, everything = tee.AGENT + gap, self._pymunk.ShapeFilter()
        hits = self._env.space.segment_query(tuple(a), tuple(b), size, everything)
        return not any(hit.shape in self._env._block_shapes for hit in hits)

    def clear_of(self, point: np.ndarray) -> np.ndarray:
        """`point`, or where an agent there would have left the block by the nearest way."""
        near = [shape.point_query(tuple(point)) for shape in self._env._block_shapes]
        nearest = min(near, key=lambda found: found.distance)
        lacking = max(0.0, tee.AGENT + tee.GAP / 2 - nearest.distance)
        return point + lacking * np.array(nearest.gradient)


class Expert:
    """Plans a push, and gives its targets one by one."""

    def __init__(self):
        self.model, self.pushes, self.around = Model(), tee.pushes(), tee.around()
        self.start()

    def start(self) -> None:
        """Forget the plan: an episode begins."""
        self.plan: list[np.ndarray] = []

    def act(self, env: Any) -> np.ndarray:
        """The target of the next step of a `PushTEnv`. [2]"""
        if not self.plan:
            self.plan = list(self.planned(state_of(env)))
        return self.plan.pop(0)

    def planned(self, state: State) -> np.ndarray:
        """The targets of the best push from a state, the way there included. [T, 2]"""
        before, best, gain = tee.errors(state.pose[None])[0], None, -np.inf
        for start, targets in self.promising(state):
            self.model.set(state)
            plan = np.concatenate([self.way(state, start), targets])
            _, poses = self.model.play(plan)
            gained = (before - tee.errors(poses[-1:])[0]) / (len(plan) + OVERHEAD)
            best, gain = (plan, gained) if gained > gain else (best, gain)
        return state.agent[None] if best is None else best

    def promising(self, state: State) -> list[tuple[np.ndarray, np.ndarray]]:
        """The pushes that come closest to the goal: where each begins, and its targets."""
        found = []
        for start, direction in zip(*self.pushes.at(state.pose), strict=True):
            self.model.set(State(start, np.zeros(2), state.pose))
            if not (tee.inside(start) and self.model.free(start, start)):
                continue
            ramp = start + PUSH * np.arange(1, REACH + 1)[:, None] * direction
            agents, poses = self.model.play(ramp)
            errors = tee.errors(poses)
            best = int(np.argmin(errors))
            end = start + ((agents[best] - start) @ direction) * direction
            found.append((errors[best], start, pushed(start, end)))
        found.sort(key=lambda option: option[0])
        return [(start, targets) for _, start, targets in found[:TRIED]]

    def way(self, state: State, start: np.ndarray) -> np.ndarray:
        """Targets that lead the agent around the block to where a push begins. [T, 2]"""
        corners = tee.to_world(state.pose, self.around)
        route = tee.route(self.model.clear_of(state.agent), start, corners, self.model.free)
        points = np.concatenate([state.agent[None], route])
        return np.concatenate([tee.paced(points, TRAVEL), [start] * WAIT])


def pushed(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Targets of a push from `start` to `end`. [T, 2]"""
    return np.concatenate([tee.paced(np.stack([start, end]), PUSH), [end] * WAIT])


def demonstration(env: HostEnv, expert: Expert, seed: int, noise: float = 0.0) -> Episode:
    """An episode of the expert, from the start that belongs to a seed.

    Args:
      noise: deviation, in pixels, of what is added to the targets that are executed. Those written
        are without it, so that the data shows how to come back (Laskey et al., 2017; DART).
    """
    obs, rows, last = env.reset([seed]), [], False
    generator = np.random.default_rng(seed)
    expert.start()
    while not last:
        target = expert.act(env.simulators[0])
        played = target + noise * generator.normal(size=2)
        step = env.step(scaled(played)[None])
        rows.append((obs[0], scaled(target), step.reward[0], step.discount[0]))
        obs, last, final = step.obs, bool(step.last[0]), step.next_obs[0]
    acted, *rest = map(np.stack, zip(*rows, strict=True))
    return Episode(np.concatenate([acted, final[None]]), *rest)


def scaled(target: np.ndarray) -> np.ndarray:
    """The action of a target. [2] in [-1, 1]"""
    return (target / (SIZE / 2) - 1).clip(-1, 1).astype(np.float32)
