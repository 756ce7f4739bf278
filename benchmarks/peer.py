"""Other suites, each in a virtual environment and a process of its own."""

import json
import os
import shutil
import subprocess
import sys
import venv
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.timing import Window
from jaxrl.errors import UserError
from jaxrl.experiment import SMALL_LOOPS

HERE = Path(__file__).parent / "peers"


class Peer(NamedTuple):
    """A suite and the script that drives it: its first line out says what it is, see `Process`."""

    name: str
    script: Path
    measures: tuple[str, ...]
    requirements: Path = HERE / "requirements.txt"
    argument: str = ""  # for the script
    home: str = ""  # the directory of its virtual environment; empty: `name`


BRAX = HERE / "requirements-brax.txt"
D3RLPY = Peer(
    "d3rlpy",
    HERE / "d3rlpy_offline.py",
    ("updates",),
    HERE / "requirements-d3rlpy.txt",
    home="d3rlpy",
)
PEERS = {
    "sac": (Peer("sbx-rl", HERE / "sbx_sac.py", ("updates", "environment")),),
    "ppo_brax": (Peer("brax-ppo", HERE / "brax_ppo.py", ("simulator",), BRAX),),
    "iql": (D3RLPY._replace(name="d3rlpy-iql", argument="iql"),),
    "cql": (D3RLPY._replace(name="d3rlpy-cql", argument="cql"),),
    "decision_transformer": (D3RLPY._replace(name="d3rlpy-dt", argument="dt"),),
}


def python_of(peer: Peer, directory: Path) -> Path:
    """The interpreter of the peer's environment under `directory`, which is made if need be.

    Raises:
      UserError: the packages cannot be installed.
    """
    home = directory.expanduser() / (peer.home or peer.name)
    python, done = home / "bin" / "python", home / "installed.txt"
    wanted = peer.requirements.read_text()
    if done.exists() and done.read_text() == wanted:
        return python
    if not python.exists():
        venv.create(home, with_pip=True)
    print(f"installing {peer.name} into {home}", file=sys.stderr)
    install = [str(python), "-m", "pip", "install", "-q", "-r", str(peer.requirements)]
    if subprocess.run(install, stdout=sys.stderr).returncode:
        raise UserError(f"peers: could not install {peer.requirements} into {home}")
    shutil.copy(peer.requirements, done)
    return python


def environment() -> dict[str, str]:
    """The variables of a peer's process: without our package, and without our option for XLA."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    flags = kept.pop("XLA_FLAGS", "").split()
    return kept | {"XLA_FLAGS": " ".join(flag for flag in flags if flag != SMALL_LOOPS)}


class Process:
    """A running peer: a measure's name goes in, the rate of one window comes back.

    Raises:
      UserError: the peer ends before it answers; its own words are on stderr.
    """

    def __init__(self, peer: Peer, python: Path, seconds: float):
        self.peer = peer
        self._process = subprocess.Popen(
            [str(python), str(peer.script), str(seconds), peer.argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        self.about: dict[str, Any] = self._answer()

    def windows(self, measure: str) -> dict[str, Window]:
        """The contestant for `timing.interleaved`, if the peer has that measure."""
        if measure not in self.peer.measures:
            return {}
        return {self.peer.name: partial(self._play, measure)}

    def _play(self, measure: str) -> float:
        self._process.stdin.write(measure + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        if line := self._process.stdout.readline():
            return json.loads(line)
        raise UserError(f"peers: {self.peer.name} ended with status {self._process.wait()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
