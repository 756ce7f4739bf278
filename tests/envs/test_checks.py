"""Mistakes in an environment of one's own, each named with what was expected."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl.envs import TimeStep, auto_reset, cartpole, pendulum
from jaxrl.envs.checks import check_env
from jaxrl.errors import UserError
from jaxrl.types import Spec

SPEC = Spec.continuous(2, 1)
ZEROS = jnp.zeros(2)


def own(spec=SPEC, obs=ZEROS, next_obs=ZEROS, reward=0.0, terminal=False):
    return auto_reset(
        spec,
        lambda key: (ZEROS, obs),
        lambda state, action, key: (ZEROS, next_obs, reward, terminal),
        9,
    )


def by_hand(**changes):
    def step(state, action, key):
        del action, key
        good = TimeStep(state, ZEROS, jnp.zeros(()), jnp.ones(()), ZEROS, jnp.array(False))
        return good._replace(**changes)

    return own()._replace(step=step)


@pytest.mark.parametrize(
    "env", [own(), by_hand(), by_hand(discount=jnp.array(1)), pendulum.make(), cartpole.make()]
)
def test_what_keeps_to_its_spec_passes(env):
    check_env("mine", env)


def test_other_float_types_pass():
    check_env("mine", own(obs=jnp.zeros(2, jnp.bfloat16), next_obs=jnp.zeros(2, jnp.bfloat16)))


@pytest.mark.parametrize(
    "env, message",
    [
        (3, "found int, expected jaxrl.envs.Env"),
        (
            own(spec=Spec.continuous(3, 1)),
            r"obs of reset: found float32\[2\], expected float32\[3\]",
        ),
        (own(obs=jnp.zeros(2, int)), r"obs of reset: found int32\[2\]"),
        (own(obs={"a": ZEROS}), r"obs of reset: found {'a': 'float32\[2\]'}"),
        (by_hand(obs=jnp.zeros(3)), r"obs of step: found float32\[3\]"),
        (by_hand(next_obs=jnp.zeros(1)), r"next_obs of step: found float32\[1\]"),
        (by_hand(reward=jnp.zeros(1)), r"reward of step: found float32\[1\], expected float32\[\]"),
        (by_hand(last=jnp.zeros(())), r"last of step: found float32\[\], expected bool\[\]"),
        (own()._replace(reset=lambda: ZEROS), r"reset: found too many .*, expected reset\(key\)"),
        (own()._replace(reset=lambda key: ZEROS), r"reset: found .*, expected \(state, obs\)"),
        (own()._replace(step=3), r"step: found .*, expected step\(state, action, key\)"),
        (own()._replace(step=lambda *x: x), "step: found tuple, expected jaxrl.envs.TimeStep"),
        (own(spec=SPEC._replace(obs=2)), "spec: found 2, expected shapes and types"),
        (
            own(spec=SPEC._replace(action=jax.ShapeDtypeStruct((), jnp.float32))),
            r"spec.action: found float32\[\], expected a vector",
        ),
        (own(spec=SPEC._replace(num_actions=2)), "spec.action: .* expected one integer"),
    ],
)
def test_a_mistake_is_named(env, message):
    with pytest.raises(UserError, match=f"mine: {message}"):
        check_env("mine", env)
