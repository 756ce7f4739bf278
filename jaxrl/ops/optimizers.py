"""What several agents do to an optimiser."""

from typing import Any, TypeVar

import optax

Networks = TypeVar("Networks", bound=Any)


def cosine(rate: float, steps: int) -> Any:
    """A learning rate that falls from `rate` to 0 over `steps` updates; 0 steps keep it."""
    return optax.cosine_decay_schedule(rate, steps) if steps else rate


def clipped(
    optimizer: optax.GradientTransformation, max_norm: float | None
) -> optax.GradientTransformation:
    """`optimizer` behind a bound on the global norm of the gradient, if there is one."""
    if max_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(max_norm), optimizer)


def unless_given(networks: Networks, **own: Any) -> Networks:
    """An agent's networks with its `own` optimisers in those fields that hold none."""
    return networks._replace(**{k: x for k, x in own.items() if getattr(networks, k) is None})
