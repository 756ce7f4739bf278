"""Settings that no agent takes."""

import dataclasses
import typing

import jax
import pytest

from jaxrl.agents import sac
from jaxrl.errors import UserError
from tests.agents.catalog import CASES, FLAT

AGENTS = [case for case in CASES if not case.variant]
WRONG = [
    pytest.param(case, field.name, bad, id=f"{case.name}-{field.name}-{bad}")
    for case in AGENTS
    for field in dataclasses.fields(case.config)
    for bad in (
        [-1e-3, -1, float("nan")] * field.name.endswith("learning_rate")
        + [(0,), (8, 2.5), 8] * field.name.endswith("hidden")
        + ["float8", "int32"] * (field.name == "dtype")
        + ["J3", None] * (typing.get_origin(field.type) is typing.Literal)
    )
]


@pytest.mark.parametrize("case, name, value", WRONG)
def test_every_agent_refuses_what_a_setting_cannot_be(case, name, value):
    with pytest.raises(UserError, match=rf"^{name}: found .*, expected") as error:
        case.make(lambda config: dataclasses.replace(config, **{name: value}))
    assert str(value) in str(error.value)


def test_choices_are_listed():
    with pytest.raises(UserError, match="temperature_loss: found 'J3', expected one of J1, J2"):
        sac.make(FLAT, sac.Config(temperature_loss="J3"))


def test_no_learning_and_no_hidden_layers_are_taken():
    assert sac.make(FLAT, sac.Config(learning_rate=0, hidden=(), dtype="bfloat16"))


def test_traced_settings_are_taken():
    def init(rate):
        return sac.make(FLAT, sac.Config(hidden=(8,), learning_rate=rate)).init(jax.random.key(0))

    assert jax.eval_shape(init, -1.0)
