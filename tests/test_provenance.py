"""`config.json`: what it holds, and which runs it refuses to continue."""

import dataclasses
import enum
import json
import math
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import provenance
from jaxrl.errors import UserError


class Size(NamedTuple):
    width: int = 3


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    gamma: float = 0.99
    hidden: tuple[int, ...] = (256, 256)
    backbone: str | None = None


@dataclasses.dataclass(frozen=True)
class RunConfig:
    agent: AgentConfig = AgentConfig()
    env: str = "jaxrl/Pendulum-v1"
    steps: int = 100
    out: Path = Path("runs/a")


@dataclasses.dataclass
class Nothing:
    pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (RunConfig().agent, {"gamma": 0.99, "hidden": [256, 256], "backbone": None}),
        (Size(), {"width": 3}),
        (Nothing(), {}),
        ({}, {}),
        ([math.inf, -math.inf, True], ["inf", "-inf", True]),
        (np.float32(0.5), 0.5),
        (np.arange(2), [0, 1]),
        (jnp.array([1.5, jnp.nan]), [1.5, "nan"]),
        (jnp.array(0.5, jnp.bfloat16), 0.5),
        (Colour.RED, "RED"),
        (Path("a/b"), "a/b"),
        (math.sqrt, "math.sqrt"),
    ],
)
def test_plain_is_json(value, expected):
    assert provenance.plain(value) == expected
    json.dumps(provenance.plain(value), allow_nan=False)


def test_config_holds_settings_and_ground(tmp_path):
    provenance.write(tmp_path, RunConfig(), [provenance.start(0)])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["agent"]["gamma"] == 0.99
    start = config["starts"][0]
    assert start["step"] == 0
    assert start["versions"]["jax"] == jax.__version__
    assert start["devices"]["platform"] == jax.default_backend()
    assert start["devices"]["count"] == jax.device_count()
    assert start["cores"] == len(os.sched_getaffinity(0))
    assert {"python", "commit", "dirty", "command"} < start.keys()
    assert os.uname().nodename not in json.dumps(config | {"starts": [start | {"command": []}]})


def test_no_temporary_file_is_left(tmp_path):
    provenance.write(tmp_path, {}, [])
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_commit_is_read_from_a_checkout_alone(tmp_path, monkeypatch):
    module = tmp_path / "jaxrl" / "provenance.py"
    module.parent.mkdir()
    module.touch()
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert provenance.start(0)["commit"] is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    clean = provenance.start(0)
    assert len(clean["commit"]) == 40
    assert not clean["dirty"]
    module.write_text("changed")
    assert provenance.start(0)["dirty"]


def test_the_commit_of_a_surrounding_project_is_not_ours(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "site" / "jaxrl" / "provenance.py"))
    (tmp_path / "site" / "jaxrl").mkdir(parents=True)
    assert provenance.start(0)["commit"] is None


def test_same_settings_pass(tmp_path):
    provenance.check(tmp_path, RunConfig())  # nothing there yet
    provenance.write(tmp_path, RunConfig(), [provenance.start(0)])
    provenance.check(tmp_path, RunConfig(steps=200, out=Path("elsewhere")))


def test_each_difference_is_named(tmp_path):
    provenance.write(tmp_path, RunConfig(), [])
    other = RunConfig(AgentConfig(gamma=0.98, hidden=(256,)), env="jaxrl/CartPole-v1")
    with pytest.raises(UserError) as error:
        provenance.check(tmp_path, other)
    path = tmp_path / "config.json"
    assert f"agent.gamma: found 0.99 in {path}, asked for 0.98" in str(error.value)
    assert f"agent.hidden: found [256, 256] in {path}, asked for [256]" in str(error.value)
    assert "env: found" in str(error.value)
    assert "steps" not in str(error.value)
    assert "\n" not in str(error.value)


def test_difference_of_what_only_one_side_has():
    assert provenance.differences({"a": None}, {}) == [("a", "null", "nothing")]
    assert provenance.differences({}, {"a": {"b": 1}}) == [("a.b", "nothing", "1")]


def test_number_types_do_not_differ():
    assert provenance.differences({"a": 1, "b": math.inf}, {"a": 1.0, "b": math.inf}) == []


def test_free_settings_are_groups_or_paths():
    old, new = {"mesh": {"data": 1}, "loop": {"n": 1, "m": 1}}, {"mesh": {}, "loop": {"n": 2}}
    assert provenance.differences(old, new, ("mesh", "loop.n", "loop.m")) == []
    assert len(provenance.differences(old, new, ("mesh", "loop.n"))) == 1
    assert len(provenance.differences({"meshes": 1}, {"meshes": 2}, ("mesh",))) == 1


@pytest.mark.parametrize("text", ['{"agent": {"gam', "", "[1, 2]", "\x00\xff"])
def test_a_broken_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="config.json"):
        provenance.check(tmp_path, RunConfig())


def test_reading_where_there_is_no_run(tmp_path):
    with pytest.raises(UserError, match="config.json"):
        provenance.read(tmp_path)
