"""One run on several processes: joining them, agreeing, and ending all of them when one fails.

Every process runs the same script with the same flags but for its own index. `jaxrl.launch` starts
several on one machine; Cloud TPU and the cluster managers that JAX knows need `count` -1 alone.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxrl.errors import UserError

DETECTED = -1


@dataclasses.dataclass(frozen=True)
class ProcessConfig:
    """How this process finds the others of its run."""

    count: int = 1  # processes of the run; -1: the cluster says this and all that follows
    index: int = 0  # of this one
    coordinator: str = ""  # HOST:PORT at which process 0 listens
    timeout: int = 300  # seconds that processes wait for one another at the start and the end
    heartbeat: int = 20  # seconds of silence after which a process counts as dead


def given(name: str, argv: Sequence[str]) -> str | None:
    """The value of `--name` on a command line that has not been read yet."""
    flags = dict(itertools.pairwise([*argv, ""]))
    flags |= dict(arg.split("=", 1) for arg in argv if arg.startswith("--") and "=" in arg)
    return flags.get(f"--{name}")


def flags(argv: Sequence[str]) -> ProcessConfig:
    """The settings on a command line, which must be known before any other flag can be read.

    Raises:
      UserError: a number is none.
    """
    found = {f.name: given(f"processes.{f.name}", argv) for f in dataclasses.fields(ProcessConfig)}
    try:
        values = {k: type(getattr(ProcessConfig, k))(v) for k, v in found.items() if v is not None}
    except ValueError as error:
        raise UserError(f"processes: {error}") from None
    return ProcessConfig(**values)


def connect(config: ProcessConfig) -> None:
    """Join the other processes; call it before anything touches a device.

    Says who is awaited first, since JAX aborts without an exception when others stay away.

    Raises:
      UserError: a setting is out of range, nobody answers at the coordinator's address, or there
        is no cluster that JAX knows.
    """
    if config.count == 1:
        return
    if config.count != DETECTED:
        _check(config)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    seconds: dict[str, Any] = {
        "initialization_timeout": config.timeout,
        "shutdown_timeout_seconds": config.timeout,
        "heartbeat_timeout_seconds": config.heartbeat,
    }
    if config.count == DETECTED:
        _say(f"waiting at most {config.timeout} s for all processes of the cluster")
        _detect(seconds)
        return
    others = "the others" if config.index == 0 else "process 0"
    _say(
        f"process {config.index} of {config.count} waits at most {config.timeout} s for {others} "
        f"at {config.coordinator}"
    )
    if config.index:
        _reach(config.coordinator, config.timeout)
    jax.distributed.initialize(config.coordinator, config.count, config.index, **seconds)


def _detect(seconds: dict[str, Any]) -> None:
    try:
        jax.distributed.initialize(**seconds)
    except ValueError as error:  # nothing in the environment says what to wait for
        raise UserError(f"processes.count: found -1, but JAX sees no cluster ({error})") from None


def _check(config: ProcessConfig) -> None:
    if config.count < 1:
        raise UserError(f"processes.count: found {config.count}, expected at least 1, or -1")
    if not 0 <= config.index < config.count:
        raise UserError(f"processes.index: found {config.index}, expected 0 to {config.count - 1}")
    host, _, port = config.coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"processes.coordinator: found {config.coordinator!r}, expected HOST:PORT")
    if min(config.timeout, config.heartbeat) < 1:
        raise UserError("processes: expected timeout and heartbeat of at least 1 second")


def _reach(address: str, timeout: float) -> None:
    host, _, port = address.rpartition(":")
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5):
            return
        time.sleep(0.2)
    raise UserError(f"processes.coordinator: nobody answered at {address} within {timeout} s")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Print to stderr what concerns the whole run, once."""
    if jax.process_index() == 0:
        _say(text)


def alone() -> bool:
    """Whether this is the run's only process."""
    return jax.process_count() == 1


def first(flag: bool) -> bool:
    """What process 0 says; by its clock, for one."""
    return flag if alone() else bool(multihost_utils.broadcast_one_to_all(np.asarray(flag)))


def every(flag: bool) -> bool:
    """Whether all processes say so."""
    return flag if alone() else bool(multihost_utils.process_allgather(np.asarray(flag)).all())


def of_first(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What process 0 passed, which JSON can hold."""
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    sent = np.resize(text, length)  # broadcasting wants the same shape of all
    return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(sent))))


class Termination:
    """Whether SIGTERM has come, to any process: all of them learn of it at the same call.

    An interrupt from the keyboard counts too; a second one is as rude as ever.
    """

    def __init__(self) -> None:
        self.come = False
        self.signal = signal.SIGTERM
        self.calls = 0

    def __enter__(self) -> Self:
        numbers = (signal.SIGTERM, signal.SIGINT) if alone() else ()
        self.previous = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: Any) -> None:
        self.come, self.signal = True, signal.Signals(number)
        signal.signal(signal.SIGINT, self.previous[signal.SIGINT])

    def __call__(self) -> bool:
        if not alone() and not self.come:
            self.calls += 1  # JAX agrees on the next number that nobody has passed
            self.come = multihost_utils.reached_preemption_sync_point(self.calls)
        return self.come


def note_failure(directory: Path, error: BaseException | None) -> None:
    """Leave the cause of this process's end, one of several, in the run's directory."""
    if alone():
        return
    path = directory / f"failed-{jax.process_index()}.txt"
    with contextlib.suppress(OSError):
        if error is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8")


def leave(status: int, cause: str) -> NoReturn:
    """Say why, and exit; one of several at once, since an orderly exit would wait for the rest."""
    _say(cause)
    if alone() or status > 128:  # of all of them together
        sys.exit(status)
    sys.stdout.flush()
    os._exit(status)
