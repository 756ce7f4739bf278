"""jaxrl: reinforcement-learning agents as pure functions over pytrees."""

from jaxrl.types import Agent, Learner, Policy, Segment, Spec, Transition, descend

__version__ = "0.1.0"

__all__ = ["Agent", "Learner", "Policy", "Segment", "Spec", "Transition", "descend"]
