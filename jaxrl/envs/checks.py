"""What an environment of a user's own must keep to, read off shapes before anything is played."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.base import Env, TimeStep
from jaxrl.errors import UserError
from jaxrl.types import PyTree, Spec


def called(what: str, function: Callable[[], Any]) -> Any:
    """What a function without arguments returns.

    Raises:
      UserError: it needs some.
    """
    expected = "a function without required arguments that returns an Env"
    check_signature(what, function, 0, expected)
    return function()


def check_env(what: str, env: Any) -> None:
    """Raise unless `env` is an `Env` whose functions return what its `spec` says, for one key.

    Raises:
      UserError: names `what` it is and the field, what was found and what was expected.
    """
    if not (isinstance(env, Env) and isinstance(env.spec, Spec)):
        raise wrong(what, type(env).__name__, "jaxrl.envs.Env(spec, reset, step)")
    check_spec(f"{what}: spec", env.spec)
    check_signature(f"{what}: reset", env.reset, 1, "reset(key)")
    check_signature(f"{what}: step", env.step, 3, "step(state, action, key)")
    key = jax.eval_shape(jax.random.key, 0)
    begun = jax.eval_shape(env.reset, key)
    if not (isinstance(begun, tuple) and len(begun) == 2):
        raise wrong(f"{what}: reset", type(begun).__name__, "(state, obs)")
    check_like(f"{what}: obs of reset", begun[1], env.spec.obs)
    step = jax.eval_shape(env.step, begun[0], env.spec.action, key)
    if not isinstance(step, TimeStep):
        raise wrong(f"{what}: step", type(step).__name__, "jaxrl.envs.TimeStep")
    check_like(f"{what}: obs of step", step.obs, env.spec.obs)
    check_like(f"{what}: next_obs of step", step.next_obs, env.spec.obs)
    for name in ("reward", "discount", "last"):
        found = getattr(step, name)
        dtype = bool if name == "last" else getattr(found, "dtype", float)
        check_like(f"{what}: {name} of step", found, jax.ShapeDtypeStruct((), dtype))


def check_spec(what: str, spec: Spec) -> None:
    """Raise unless its leaves are shapes with types, and its action is `[A]` or one integer."""
    for leaf in jax.tree.leaves((spec.obs, spec.action)):
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise wrong(what, repr(leaf), "shapes and types, jax.ShapeDtypeStruct")
    action, (ndim, kinds) = spec.action, (0, "iu") if spec.discrete else (1, "f")
    if len(action.shape) != ndim or kind_of(action.dtype) not in kinds:
        expected = "one integer, int32[]" if spec.discrete else "a vector, float32[A]"
        raise wrong(f"{what}.action", described(action), expected)


def check_signature(what: str, function: Any, arguments: int, expected: str) -> None:
    """Raise unless a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError as error:
        raise wrong(what, str(error), expected) from error
    except ValueError:  # a builtin, which does not tell
        return


def check_like(what: str, found: PyTree, expected: PyTree) -> None:
    """Raise unless both have the same structure, shapes and kinds of number."""
    if signature(found) != signature(expected):
        raise wrong(what, described(found), described(expected))


def signature(tree: PyTree) -> tuple[list, Any]:
    """Shapes and kinds of the leaves, and the structure that holds them."""
    leaves, structure = jax.tree.flatten(tree)
    return [(tuple(x.shape), kind_of(x.dtype)) for x in leaves], structure


def kind_of(dtype: Any) -> str:
    """One letter, as NumPy's, and "f" also for the float types that NumPy lacks."""
    return "f" if jnp.issubdtype(dtype, jnp.floating) else np.dtype(dtype).kind


def described(tree: PyTree) -> str:
    """`float32[3]` for every leaf, inside what holds it."""
    one = jax.tree.map(lambda x: f"{x.dtype}[{','.join(map(str, x.shape))}]", tree)
    return one if isinstance(one, str) else str(one)


def wrong(what: str, found: str, expected: str) -> UserError:
    """The error for something of the user's that is not as it must be."""
    return UserError(f"{what}: found {found}, expected {expected}")
