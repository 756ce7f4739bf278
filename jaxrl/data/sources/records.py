"""Raw records of the files that tensorflow-datasets writes, without TensorFlow."""

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordReader

AT_ONCE = 64  # records


def read(path: Path) -> Iterator[bytes]:
    """The records of an ArrayRecord or TFRecord file, in order.

    Raises:
      EOFError, OSError, RuntimeError: the file is truncated or is something else.
    """
    yield from (_tf_records if ".tfrecord" in path.name else _array_records)(path)


def at_random(paths: Sequence[Path]) -> Sequence[bytes] | None:
    """The records of all files by number; None for TFRecord files, which are read in order only."""
    if any(".tfrecord" in path.name for path in paths):
        return None
    return ArrayRecordDataSource([os.fspath(path) for path in paths])


def _array_records(path: Path) -> Iterator[bytes]:
    reader = ArrayRecordReader(str(path))
    try:
        for start in range(0, reader.num_records(), AT_ONCE):
            yield from reader.read(start, min(start + AT_ONCE, reader.num_records()))
    finally:
        reader.close()


def _tf_records(path: Path) -> Iterator[bytes]:
    """Each record is its length in 8 bytes, a checksum in 4, the data, and a checksum in 4."""
    with path.open("rb") as file:
        while head := file.read(12):
            size = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 0
            data = file.read(size)
            if len(head) < 12 or len(data) < size or len(file.read(4)) < 4:
                raise EOFError("the last record is incomplete")
            yield data
