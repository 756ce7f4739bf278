"""Environments by name, and what a wrong name says."""

import subprocess
import sys

import pytest

from jaxrl.envs import Env, HostEnv, make, success_return
from jaxrl.errors import UserError


def test_names_of_every_kind():
    assert isinstance(make("jaxrl/Pendulum-v1"), Env)
    assert isinstance(make("gymnax/CartPole-v1"), Env)
    host = make("gymnasium/CartPole-v1", num_envs=3)
    assert isinstance(host, HostEnv) and host.num_envs == 3


def test_tasks_whose_returns_tell_success():
    scored = "gymnasium/gym_pusht/PushT-v0?obs_type=state&return=best"
    assert success_return(scored) == pytest.approx(1, abs=1e-4) and success_return(scored) < 1
    assert success_return("jaxrl/detour-v0") == 1
    assert success_return("gymnasium/gym_pusht/PushT-v0") is None  # a sum over steps
    assert success_return("jaxrl/Pendulum-v1") is None


@pytest.mark.parametrize(
    "name, near",
    [
        ("jaxrl/pendulum", "Pendulum-v1"),
        ("jaxrl/xyz", "some that exist: CartPole-v1, Pendulum-v1"),
        ("gymnax/Cartpole", "CartPole-v1"),
        ("gymnasium/Halfcheetah", "HalfCheetah-v5"),
        ("gymnasim/HalfCheetah-v5", "gymnasium"),
        ("HalfCheetah-v5", "BACKEND/NAME"),
        ("jaxrl/Pendulum-v1?backend=spring", "has no option"),
        ("brax/ant?spring", "has no option"),
    ],
)
def test_a_wrong_name_says_what_is_near(name, near):
    with pytest.raises(UserError) as error:
        make(name)
    assert near in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, package, extra",
    [
        ("gymnax/CartPole-v1", "gymnax", "gymnax"),
        ("brax/ant", "brax.envs", "brax"),
        ("playground/CheetahRun", "mujoco_playground", "playground"),
        ("gymnasium/HalfCheetah-v5", "gymnasium", "mujoco"),
    ],
)
def test_a_missing_extra_is_named_with_its_command(monkeypatch, name, package, extra):
    monkeypatch.setitem(sys.modules, package, None)  # makes the import fail
    with pytest.raises(UserError) as error:
        make(name)
    assert repr(extra) in str(error.value)
    assert f"pip install 'jaxrl[{extra}]'" in str(error.value)


def test_gymnasium_without_mujoco(monkeypatch):
    for module in list(sys.modules):
        if module.startswith("gymnasium.envs.mujoco"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(UserError, match=r"pip install 'jaxrl\[mujoco\]'"):
        make("gymnasium/HalfCheetah-v5")


OWN = """
import jax
from jaxrl.envs import pendulum
OBS = jax.ShapeDtypeStruct((4,), "float32")
def task():
    return pendulum.make()
def wrong():
    return 3
def needy(size):
    return pendulum.make()
def short():
    return pendulum.make()._replace(spec=pendulum.make().spec._replace(obs=OBS))
"""


def test_a_users_own(monkeypatch, tmp_path):
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tasks.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert make("mine.tasks:task").spec.obs.shape == (3,)
    with pytest.raises(UserError, match="found int, expected"):
        make("mine.tasks:wrong")
    with pytest.raises(UserError, match="tasks:needy: found missing .* 'size', .* returns an Env"):
        make("mine.tasks:needy")
    expected = r"obs of reset: found float32\[3\], expected float32\[4\]"
    with pytest.raises(UserError, match=f"env mine.tasks:short: {expected}"):
        make("mine.tasks:short")
    with pytest.raises(UserError, match="no function 'absent'"):
        make("mine.tasks:absent")
    with pytest.raises(UserError, match="cannot import mine.absent"):
        make("mine.absent:task")


def test_no_third_party_import_until_used():
    code = """
import sys, jaxrl.envs
jaxrl.envs.make("jaxrl/Pendulum-v1")
found = {"gymnax", "brax", "mujoco", "mujoco_playground", "gymnasium", "PIL"} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)
