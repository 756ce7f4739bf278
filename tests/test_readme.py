"""The Python of README and documentation runs as it stands, and commands name files that exist."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
NOTEBOOK = ROOT / "docs" / "notebook.md"


def blocks(language, page=README):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def run(page):
    """The names that a page's Python leaves, block after block."""
    names = {}
    for block in blocks("python", page):
        exec(compile(block, str(page), "exec"), names)
    return names


@pytest.mark.slow
def test_python_runs():
    names = run(README)
    assert names["action"].shape == (256, 1)
    assert np.isfinite(names["metrics"]["td_error"]).all()
    assert names["metrics"]["td_error"].shape == (jax.local_device_count(),)  # pmap came last


@pytest.mark.slow
def test_notebook_runs():
    names = run(NOTEBOOK)
    assert names["mine_state"].critic.params != {}
    assert names["run"].step == 200 and np.isfinite(names["metrics"]["value_loss"])
    assert (names["climb"].mean(1) > 0).mean() > 0.8


def test_commands_name_files_that_exist():
    words = " ".join(blocks("bash")).split()
    files = {word for word in words if re.fullmatch(r"[\w./-]+\.(py|txt)", word)}
    assert files >= {"requirements.txt", "requirements-test.txt"}
    assert [name for name in files if not (README.parent / name).exists()] == []
