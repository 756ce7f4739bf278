"""Paths on this machine and in buckets, `gs://BUCKET/...`, read and written alike."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from etils import epath

from jaxrl.errors import UserError

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

SCHEMES = ("gs", "s3")
_CUT = re.compile(rf"({'|'.join(SCHEMES)}):/+(?=[^/])")  # `pathlib` leaves one slash of two


def of(name: str | os.PathLike) -> Any:
    """A `pathlib.Path` of this machine with its `~` expanded, or one in a bucket with its methods.

    The name of a bucket may be that of a `pathlib.Path`, as flags are read: `gs:/BUCKET/...`.
    """
    text = os.fspath(name)
    if found := _CUT.match(text):
        return epath.Path(f"{found[1]}://{text[found.end() :]}")
    return Path(text).expanduser()


def remote(path: str | os.PathLike) -> bool:
    """Whether it is in a bucket, where a file is written as a whole and never at its end."""
    return bool(_CUT.match(os.fspath(path)))


def replace(path: Any, content: str | bytes) -> None:
    """Writes a file so that a crash leaves either the old contents or the new."""
    data = content.encode() if isinstance(content, str) else content
    if remote(path):
        path.write_bytes(data)
        return
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def held(directory: Any) -> Iterator[None]:
    """Keep other runs out of a directory of this machine; they are let in when the process ends.

    Raises:
      UserError: another run is writing into it.
    """
    if fcntl is None or remote(directory) or jax.process_index() != 0:
        yield
        return
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"out: another run is writing into {directory}") from None
        except OSError:  # a file system that has no locks
            pass
        yield
