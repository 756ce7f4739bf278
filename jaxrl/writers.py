"""Where a run's reports go: `metrics.jsonl`, the console, `curve.png`, TensorBoard, W&B.

A writer is two functions. Each gets every record in turn, a dictionary that JSON can hold:
`step`, `seconds` and metrics, numbers or lists with one number per seed.
"""

import importlib
import io
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from tqdm import tqdm

from jaxrl import paths
from jaxrl.errors import UserError
from jaxrl.provenance import plain

Record = Mapping[str, Any]
CURVE_SECONDS = 60.0  # between two drawings of `curve.png`


class Writer(NamedTuple):
    """Takes records in the order of their steps, until it is closed."""

    write: Callable[[Record], None]
    close: Callable[[], None]


def jsonl(path: Path) -> Writer:
    """Appends one line per record, on the disk before `write` returns; in a bucket, all anew."""
    if paths.remote(path):
        lines = [_line(record) for record in records(path)]
        return Writer(partial(_to_bucket, path, lines), lambda: None)
    return _to_stream(path.open("a", encoding="utf-8"))


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _to_bucket(path: Path, lines: list[str], record: Record) -> None:
    lines.append(_line(record))
    paths.replace(path, "".join(lines))


def _to_stream(file: TextIO) -> Writer:
    def write(record: Record) -> None:
        file.write(_line(record))
        file.flush()
        os.fsync(file.fileno())

    return Writer(write, file.close)


def records(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`, without a last line that a crash cut short.

    Raises:
      UserError: a line before the last is not a record.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().decode("utf-8", errors="replace").splitlines()
    parsed = [_record(line) for line in lines]
    if parsed and parsed[-1] is None:
        parsed.pop()
    if None in parsed:
        raise UserError(f"{path}, line {parsed.index(None) + 1}: found no JSON object with a step")
    return [record for record in parsed if record is not None]


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "step" in record else None


def trim(path: Path, step: int) -> list[dict[str, Any]]:
    """Drops what a run wrote after the checkpoint at `step`; the records that stay."""
    kept = [record for record in records(path) if record["step"] <= step]
    if path.exists():
        paths.replace(path, "".join(map(_line, kept)))
    return kept


def console(total: int, step: int) -> Writer:
    """One progress line on a terminal, a line per record elsewhere. Both on stdout."""
    if not sys.stdout.isatty():
        return Writer(partial(_print_line, total, (time.monotonic(), step)), lambda: None)
    columns, lines = shutil.get_terminal_size()  # a usual size where the terminal states none
    shape = {"ncols": columns, "nrows": lines}
    bar = tqdm(total=total, initial=step, unit=" steps", file=sys.stdout, **shape)
    return Writer(partial(_move_bar, bar), bar.close)


def _move_bar(bar: tqdm, record: Record) -> None:
    if "return_mean" in record:
        bar.set_postfix_str(f"return {float(record['return_mean']):.1f}", refresh=False)
    bar.update(record["step"] - bar.n)
    bar.refresh()


def _print_line(total: int, since: tuple[float, int], record: Record) -> None:
    seconds, steps = time.monotonic() - since[0], record["step"] - since[1]
    rate = steps / max(seconds, 1e-9)
    parts = [f"step {record['step']}/{total}", f"{rate:.0f} steps/s"]
    if rate > 0:
        left = max(total - record["step"], 0) / rate
        parts.append(f"{tqdm.format_interval(left)} left")
    if "return_mean" in record:
        parts.append(f"return {float(record['return_mean']):.1f}")
    print("  ".join(parts), flush=True)


def curve(directory: Path) -> Writer:
    """Keeps `curve.png` at most a minute old, and current when closed.

    Where it cannot be written the run goes on: it can be drawn again from `metrics.jsonl`.
    """
    source, target = directory / "metrics.jsonl", directory / "curve.png"
    due = time.monotonic()

    def redraw() -> None:
        try:
            draw(source, target)
        except OSError as error:
            print(f"curve not drawn: {error}", file=sys.stderr)

    def write(record: Record) -> None:
        nonlocal due
        if time.monotonic() >= due:
            redraw()
            due = time.monotonic() + CURVE_SECONDS

    return Writer(write, redraw)


def draw(source: Path, target: Path) -> None:
    """Draws the returns in a `metrics.jsonl`: each seed, and the interquartile mean over seeds.

    Draws nothing where no record has returns.
    """
    from matplotlib.figure import Figure  # slow to import, and not needed by most processes

    reports = [record for record in records(source) if record.get("return")]
    if not reports:
        return
    steps = [record["step"] for record in reports]
    returns = np.array([record["return"] for record in reports], float)  # [T, n]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, returns, color="C0", alpha=0.35, linewidth=1)
    label = f"interquartile mean, seeds: {returns.shape[1]}"
    axes.plot(steps, interquartile_mean(returns), color="C0", linewidth=2, label=label)
    axes.set(xlabel="step", ylabel="return")
    axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    paths.replace(target, picture.getvalue())


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without its lowest and highest quarter. [..., n] -> [...].

    A quarter is rounded down, so nothing is left out below four values (Agarwal et al., 2021).
    """
    n = values.shape[-1]
    return np.sort(values, axis=-1)[..., n // 4 : n - n // 4].mean(-1)


def tensorboard(directory: Path, config: Any, step: int) -> Writer:
    """Scalars in `DIR/tensorboard`; those after the step of a resume are marked as replaced."""
    from tensorboardX import SummaryWriter

    purge = step + 1 if step else None
    board = SummaryWriter(str(directory / "tensorboard"), purge_step=purge)
    board.add_text("config", f"```\n{json.dumps(plain(config), indent=2)}\n```", step)
    return Writer(partial(_to_board, board), board.close)


def _to_board(board: Any, record: Record) -> None:
    for name, value in scalars(record):
        board.add_scalar(name, value, record["step"])
    board.flush()


def wandb(directory: Path, config: Any, step: int) -> Writer:
    """Scalars to Weights & Biases; a resumed run stays the run that it was.

    Project, entity and mode come from its own variables (`WANDB_PROJECT`, `WANDB_MODE=offline`).

    Raises:
      UserError: the package is not installed.
    """
    try:
        client = importlib.import_module("wandb")
    except ModuleNotFoundError:
        raise UserError("writers: wandb is not installed; pip install 'jaxrl[wandb]'") from None
    run = client.init(
        dir=None if paths.remote(directory) else str(directory),
        project=os.environ.get("WANDB_PROJECT", "jaxrl"),
        id=_wandb_id(directory),
        resume="allow",
        config=plain(config),
        settings=client.Settings(silent=True, console="off"),
    )
    return Writer(lambda record: run.log(dict(scalars(record)), step=record["step"]), run.finish)


def _wandb_id(directory: Path) -> str:
    path = directory / "wandb_id.txt"
    if not path.exists():
        paths.replace(path, uuid.uuid4().hex[:8])
    return path.read_text(encoding="utf-8").strip()


def scalars(record: Record) -> Iterator[tuple[str, float]]:
    """The numbers of a record by name; one `name/i` for each seed of a list."""
    for name, value in record.items():
        if isinstance(value, list):
            yield from ((f"{name}/{i}", float(item)) for i, item in enumerate(value))
        elif name != "step":
            yield name, float(value)


OPTIONAL = {"tensorboard": tensorboard, "wandb": wandb}


def optional(name: str) -> Callable[[Path, Any, int], Writer]:
    """The writer of a name.

    Raises:
      UserError: there is none.
    """
    if name not in OPTIONAL:
        raise UserError(f"writers: found {name!r}, expected some of {', '.join(OPTIONAL)}")
    return OPTIONAL[name]
