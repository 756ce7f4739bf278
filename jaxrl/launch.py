"""Several processes of one run on this machine, with one end.

    python -m jaxrl.launch --processes 2 -- python experiments/sac.py --loop.envs 8

Each process gets the command and what it needs to find the others. Their output is shown with
their index before each line. As soon as one fails the others are stopped, and the last line says
which one it was and why. SIGTERM goes to all, which save together.
"""

import argparse
import collections
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from jaxrl.errors import UserError

GRACE = 5.0  # seconds that the others have to end by themselves
SAVING = 300.0  # the same where all of them are saving
KEPT = 50  # lines of each process, of which one is the cause
READING = 30.0  # seconds for what an ended process wrote to be read
USER_ERROR = 2
TERMINATED = 128 + signal.SIGTERM
DEVICES = "--xla_force_host_platform_device_count"


class Child:
    """A process of the run, and the last lines that it wrote."""

    def __init__(self, index: int, command: Sequence[str], environment: dict[str, str]):
        self.index = index
        self.lines: collections.deque[str] = collections.deque(maxlen=KEPT)
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # the keyboard interrupts the launcher, which tells the rest
        )
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self.reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.lines.append(line.rstrip())
            print(f"[{self.index}] {line.rstrip()}", flush=True)

    def cause(self) -> str:
        """Why it ended, in one line."""
        self.reader.join(READING)
        status = self.process.returncode
        if status < 0:
            return f"process {self.index} was ended by {signal.Signals(-status).name}"
        return f"process {self.index} ended with {status}: {said(self.lines)}"


def said(lines: Iterable[str]) -> str:
    """The last line that holds a letter or digit; of a box at the end the first one in it."""
    written = [line.strip() for line in lines if line.strip()]
    borders = [line[0] for line in written]
    if borders[-1:] == ["╰"] and "╭" in borders:
        inside = written[len(written) - borders[::-1].index("╭") :]
        written = inside[::-1]
    words = [line.strip("│ ") for line in written if any(map(str.isalnum, line))]
    return words[-1] if words else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command until it ends well, or too often badly; its exit status."""
    options = parse(argv)
    status = 0
    for attempt in range(options.restarts + 1):
        try:
            status, cause = play(options)
        except UserError as error:
            status, cause = USER_ERROR, f"error: {error}"
        if status in (0, USER_ERROR, TERMINATED) or attempt == options.restarts:
            break
        print(f"restart {attempt + 1} of {options.restarts}: {cause}", flush=True)
    if cause:
        print(cause, file=sys.stderr, flush=True)
    return status


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags before `--`, and the command after it."""
    parser = argparse.ArgumentParser("python -m jaxrl.launch", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--processes", type=int, default=1, help="how many")
    parser.add_argument("--devices", type=int, help="host devices of each, for trials on a CPU")
    parser.add_argument("--restarts", type=int, default=0, help="times to start again on failure")
    parser.add_argument("command", nargs="+", help="what every process runs, after --")
    options = parser.parse_args(argv)
    if options.processes < 1 or options.restarts < 0:
        parser.error("expected at least 1 process and 0 restarts")
    return options


def play(options: argparse.Namespace) -> tuple[int, str]:
    """One start of all processes: the status of the first that failed and why, or 0."""
    environment = dict(os.environ)
    if options.devices:
        others = environment.get("XLA_FLAGS", "").split()
        kept = [flag for flag in others if not flag.startswith(DEVICES)]
        environment["XLA_FLAGS"] = " ".join([*kept, f"{DEVICES}={options.devices}"])
    address = f"localhost:{free_port()}"
    commands = [of_process(options, i, address) for i in range(options.processes)]
    children = begin(commands, environment)
    with forwarding(children):
        failed = wait(children)
    status = failed.process.returncode if failed else 0
    stop(children, SAVING if status == TERMINATED else GRACE)
    return (status if status >= 0 else 128 - status, failed.cause()) if failed else (0, "")


def begin(commands: Sequence[Sequence[str]], environment: dict[str, str]) -> list[Child]:
    """One process for each command.

    Raises:
      UserError: the program cannot be started; those that were have been ended.
    """
    children: list[Child] = []
    try:
        for i, command in enumerate(commands):
            children.append(Child(i, command, environment))
    except OSError as error:
        stop(children, 0.0)
        program, why = commands[0][0], error.strerror
        raise UserError(f"command: cannot start {program!r} ({why}), expected a program") from error
    return children


def of_process(options: argparse.Namespace, index: int, address: str) -> list[str]:
    """The command of one process."""
    if options.processes == 1:
        return options.command
    count = str(options.processes)
    own = ("--processes.index", str(index), "--processes.coordinator", address)
    return [*options.command, "--processes.count", count, *own]


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def forwarding(children: Sequence[Child]) -> Iterator[None]:
    """Answer SIGTERM and interrupts by SIGTERM to all children, which ends the wait for them."""

    def forward(*_: object) -> None:
        for child in children:
            child.process.terminate()

    previous = {s: signal.signal(s, forward) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def wait(children: Sequence[Child]) -> Child | None:
    """Wait for all to end well, or for the first that does not."""
    running = list(children)
    while running:
        for child in [child for child in running if child.process.poll() is not None]:
            if child.process.returncode:
                return child
            running.remove(child)
        time.sleep(0.05)
    return None


def stop(children: Sequence[Child], grace: float) -> None:
    """Let the rest end by themselves for so many seconds, then end them."""
    end = time.monotonic() + grace
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(max(0.0, end - time.monotonic()))
        if child.process.poll() is None:
            child.process.kill()
            child.process.wait()
        child.reader.join(READING)


if __name__ == "__main__":
    sys.exit(main())
