"""The README's Python runs as it stands, and its commands name files that exist."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_python_runs():
    names = {}
    for block in blocks("python"):
        exec(compile(block, str(README), "exec"), names)
    assert names["action"].shape == (256, 1)
    assert np.isfinite(names["metrics"]["td_error"]).all()
    assert names["metrics"]["td_error"].shape == (jax.local_device_count(),)  # pmap came last


def test_commands_name_files_that_exist():
    words = " ".join(blocks("bash")).split()
    files = {word for word in words if re.fullmatch(r"[\w./-]+\.(py|txt)", word)}
    assert files >= {"requirements.txt", "requirements-test.txt"}
    assert [name for name in files if not (README.parent / name).exists()] == []
