"""Scripts run in this process, as their command would run them."""

import pytest

from tests import scripts


@pytest.fixture
def script():
    """Run a script of a name with the given flags."""
    return scripts.play


@pytest.fixture
def refused(capsys):
    """The one line that a script refuses such flags with."""

    def run(name, *flags, trains=True) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            scripts.play(name, *flags, trains=trains)
        assert exit.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ")
        return lines[0]

    return run
