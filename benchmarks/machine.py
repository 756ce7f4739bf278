"""What every measurement says of where and how it was made, and how it is kept."""

import json
import os
import platform
import resource
import shlex
import sys
from pathlib import Path
from typing import Any

import jax

from jaxrl import provenance

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of `ru_maxrss`
# Flags whose values are directories of this machine.
PATHS = ("--json", "--peers-dir", "--cache", "--profile")


def about(module: str) -> dict[str, Any]:
    """Command, commit, versions and hardware, and how busy the machine has been of late."""
    load = {"load_average": os.getloadavg()}  # of 1, 5 and 15 minutes
    start = provenance.start(0) | {"processor": processor()} | load
    return start | {"command": command(module)}


def peaks() -> dict[str, int | None]:
    """Bytes that this process has needed at most, on the host and on the device."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"peak_rss_bytes": host, "peak_device_bytes": device}


def command(module: str) -> str:
    """The command line, without the directories of this machine."""
    flags = sys.argv[1:]
    paths = [i + j for i, flag in enumerate(flags) if flag in PATHS for j in (0, 1)]
    kept = [flag for i, flag in enumerate(flags) if i not in paths]
    return shlex.join(["python", "-m", module, *kept])


def processor() -> str:
    """The model of the CPU."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def write(path: Path | None, found: dict[str, Any]) -> None:
    """Keep what was found, if there is a file to keep it in."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(provenance.plain(found), indent=1) + "\n")
