"""Scripts run in this process, as their command would run them."""

import runpy
import sys

import pytest

from tests import scripts


@pytest.fixture
def script(monkeypatch):
    """Run a script of a name with the given flags, on one device."""

    def run(name, *flags):
        flags = ("--mesh.data", "1", *map(str, flags))
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *flags])
        runpy.run_path(str(scripts.ROOT / "experiments" / f"{name}.py"), run_name="__main__")

    return run


@pytest.fixture
def refused(script, capsys):
    """The one line that a script refuses such flags with."""

    def run(name, *flags) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            script(name, *flags)
        assert exit.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ")
        return lines[0]

    return run
