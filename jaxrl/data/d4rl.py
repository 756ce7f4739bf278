"""D4RL's reference returns and normalised score (Fu et al., 2020; arXiv:2004.07219)."""

from typing import NamedTuple

import numpy as np

from jaxrl.errors import unknown_name


class Reference(NamedTuple):
    """Undiscounted returns of an episode."""

    random: float
    expert: float


# Farama-Foundation/D4RL at 89141a689b, d4rl/infos.py, REF_MIN_SCORE and REF_MAX_SCORE. Datasets and
# versions of a task share them, except in maze2d. They were measured on MuJoCo environments of
# version 2: a score on Gymnasium's later ones is comparable only with care.
REFERENCES = {
    "halfcheetah": Reference(-280.178953, 12135.0),
    "hopper": Reference(-20.272305, 3234.3),
    "walker2d": Reference(1.629008, 4592.3),
    "ant": Reference(-325.6, 3879.7),
    "antmaze": Reference(0.0, 1.0),
    "kitchen": Reference(0.0, 4.0),
    "pen": Reference(96.262799, 3076.8331017826877),
    "hammer": Reference(-274.856578, 12794.134825156867),
    "door": Reference(-56.512833, 2880.5693087298737),
    "relocate": Reference(-6.425911, 4233.877797728884),
    "maze2d-open": Reference(0.01, 20.66),
    "maze2d-umaze": Reference(23.85, 161.86),
    "maze2d-medium": Reference(13.13, 277.39),
    "maze2d-large": Reference(6.7, 273.99),
    "maze2d-open-dense": Reference(11.17817, 27.166538620695782),
    "maze2d-umaze-dense": Reference(68.537689, 193.66285642381482),
    "maze2d-medium-dense": Reference(44.264742, 297.4552547777125),
    "maze2d-large-dense": Reference(30.569041, 303.4857382709002),
}
LOCOMOTION = ("halfcheetah", "hopper", "walker2d", "ant-")  # and how file names begin
LOCOMOTION_TIME_LIMIT = 1000  # steps


def reference(name: str) -> Reference:
    """The references of a task or a dataset, as `hopper`, `hopper-medium-v2`, `Hopper-v5`.

    Raises:
      UserError: D4RL has no such task; names the near ones.
    """
    if found := _task(name):
        return REFERENCES[found]
    raise unknown_name("D4RL task", name, REFERENCES)


def known(name: str) -> bool:
    """Whether D4RL has references for a task or a dataset."""
    return bool(_task(name))


def _task(name: str) -> str:
    """The longest name of a task that `name` begins with, or nothing."""
    parts = name.lower().replace("_", "-").split("-")
    starts = ("-".join(parts[:stop]) for stop in range(len(parts), 0, -1))
    return next((task for task in starts if task in REFERENCES), "")


def normalized_score(name: str, returns: np.ndarray | float) -> np.ndarray | float:
    """100 (return - random) / (expert - random), of one return or many."""
    low, high = reference(name)
    return 100 * (returns - low) / (high - low)
