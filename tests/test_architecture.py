"""Who may import whom, and what a compiled update may not hold."""

import ast
from pathlib import Path

import jax
import pytest

from tests.agents.catalog import CASES

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "jaxrl").rglob("*.py"))
OF_AGENTS = {"agents", "distributions", "errors", "networks", "ops", "types"}


def imported(path):
    """Full names of all that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path):
    """The parts of the package that a file imports."""
    names = (name.split(".") for name in imported(path))
    return {name[1] for name in names if name[0] == "jaxrl" and len(name) > 1}


def libraries(path):
    return {name.split(".")[0] for name in imported(path)}


def part(path):
    """The package or module of ours that a file belongs to."""
    return path.relative_to(ROOT / "jaxrl").parts[0].removesuffix(".py")


def using(library):
    return {path.relative_to(ROOT).as_posix() for path in FILES if library in libraries(path)}


def test_agents_know_neither_loops_nor_data_nor_devices():
    for path in FILES:
        if part(path) == "agents":
            assert ours(path) <= OF_AGENTS, path.name


def test_equations_import_nothing_of_ours():
    for path in FILES:
        if part(path) == "ops":
            assert ours(path) <= {"ops"}, path.name


def test_networks_know_no_agent_and_no_loop():
    for path in FILES:
        if part(path) == "networks":
            assert ours(path) <= {"networks", "distributions", "errors", "types", "ops"}, path.name


def test_environments_and_data_know_no_loop():
    for path in FILES:
        if part(path) in {"envs", "data"}:
            assert not ours(path) & {"loops", "agents", "parallel"}, path.name


def test_only_networks_import_flax():
    assert {part(ROOT / name) for name in using("flax")} == {"networks"}


def test_no_module_of_the_package_imports_the_command_line_library():
    assert using("tyro") == set()


def test_one_file_imports_tensorflow_datasets_and_none_tensorflow():
    assert len(using("tensorflow_datasets")) <= 1
    assert using("tensorflow") == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_updates_hold_no_callback_to_the_host(case):
    agent = case.make()
    state = jax.eval_shape(agent.init, jax.random.key(0))
    batch = jax.eval_shape(lambda: case.batch_of(0))
    jaxpr = str(jax.make_jaxpr(agent.update)(state, batch, jax.random.key(0)))
    assert "callback" not in jaxpr
    assert "infeed" not in jaxpr
