"""What the peers' scripts share: a line in names a measure, a line out is the rate of a window.

It lies beside the scripts, which run in environments of their own: it imports nothing of ours.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import TextIO

Play = tuple[Callable[[], object], int]  # what to call, and how much a call does


def window(play: Callable[[], object], amount: int, seconds: float) -> float:
    """The rate of `amount` per call of `play`, over at least `seconds`."""
    begin, calls, passed = time.perf_counter(), 0, 0.0
    while not calls or passed < seconds:
        play()
        calls, passed = calls + 1, time.perf_counter() - begin
    return calls * amount / passed


def introduce(packages: Sequence[str], platform: str, answers: TextIO) -> None:
    """The first line out: versions, and what kind of device is used."""
    versions = {package: metadata.version(package) for package in packages}
    about = {"versions": versions, "platform": platform}
    print(json.dumps(about), file=answers, flush=True)


def serve(measures: Mapping[str, Callable[[], Play]], answers: TextIO) -> None:
    """Answer until there is nothing more to read; windows are as long as the first argument."""
    seconds, ready = float(sys.argv[1]), {}
    for line in sys.stdin:
        measure = line.strip()
        if measure not in ready:
            ready[measure] = measures[measure]()
        print(json.dumps(window(*ready[measure], seconds)), file=answers, flush=True)
