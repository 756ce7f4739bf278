"""What a loop is, how it is compiled, and how seeds and meshes apply to it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import psutil
from jax.sharding import Mesh

from jaxrl import parallel
from jaxrl.errors import UserError
from jaxrl.networks.placement import activations
from jaxrl.types import Array, Key, Metrics, PyTree

STRETCH = 100  # iterations, at most, between two looks at whether to save or to stop


class Run(NamedTuple):
    """All that a checkpoint needs. Keys are not in it: they follow from the seed and `step`."""

    state: PyTree  # the agent's
    env: PyTree
    replay: PyTree
    step: Array  # [] int32, iterations done


class Loop(NamedTuple):
    """Two pure functions, and the way to play many iterations at once.

    A run is a `Run`, or a tuple of them where seeds are played in turn.

    `step` is one iteration and derives its randomness from `fold_in(key, run.step)`; `advance`
    plays `n` of them, donates the run and averages metrics over updates. `data` is what every
    iteration reads and none changes, such as a dataset: `step(run, key, *data)`.
    """

    begin: Callable[[Key], Any]
    step: Callable[..., tuple[Any, Metrics]]
    advance: Callable[[Any, Key, int], tuple[Any, Metrics]]
    shapes: Callable[[Key], Any]  # what `begin` would give, without giving it
    seeds: int = 0  # how many seeds it plays already; 0 is one, without an axis for it
    data: tuple[PyTree, ...] = ()
    placed: bool = False  # whether it is laid out over the run's mesh already


def compiled(
    begin: Callable, step: Callable, *data: PyTree, told: Callable[[Metrics], Metrics] = lambda m: m
) -> Loop:
    """A loop on the device: `advance` is one `jit` of a `scan`.

    `data` are arguments of the program, since it would hold its constants a second time; `told`
    is what the program does to the metrics before it returns them.
    """

    @partial(jax.jit, static_argnums=2, donate_argnums=0)
    def advance(run: Run, key: Key, n: int, data: tuple = ()) -> tuple[Run, Metrics]:
        run, metrics = jax.lax.scan(lambda run, _: step(run, key, *data), run, None, length=n)
        return run, told(average(metrics))

    bound = partial(advance, data=data) if data else advance
    return Loop(jax.jit(begin), step, bound, partial(jax.eval_shape, begin), data=data)


def average(metrics: Metrics) -> Metrics:
    """Means over iterations `[n, ...]`, each weighted by its `updates`, and their sum."""
    updates = metrics["updates"]
    total = updates.sum(0)

    def mean(x: Array) -> Array:
        return (x * updates).sum(0) / jnp.maximum(total, 1)

    return {name: mean(x) for name, x in metrics.items()} | {"updates": total}


def train(
    loop: Loop,
    key: Key,
    run: Run,
    iterations: int,
    report_every: int,
    pause: Callable[[], bool] = lambda: False,
    parts: list[Metrics] | None = None,
) -> Iterator[tuple[Run, Metrics]]:
    """Play until `iterations` are done in all, yielding every `report_every` of them.

    `pause` is asked after every stretch, which is at most `STRETCH` iterations; where it is true,
    the run so far is yielded too, and whoever iterates may stop there.

    Args:
      parts: filled with the metrics of stretches since the last report, and empty at a report.
        Where a run stopped between two of them, the next call, given these, completes the report.
    """
    done, parts = int(step_of(run)), [] if parts is None else parts
    size = stretch(report_every)
    while done < iterations:
        begin = done - done % report_every
        end = min(begin + report_every, iterations)
        n = min(size - (done - begin) % size, end - done)
        run, metrics = loop.advance(run, jax.random.clone(key), n)
        done += n
        parts.append(jax.device_get(metrics))
        if done == end or pause():
            report = average(jax.tree.map(lambda *x: jnp.stack(x), *parts))
            if done == end:
                parts.clear()
            yield run, report


def stretch(report_every: int) -> int:
    """Iterations in one call: equal parts of a report, so that one program is compiled.

    Where no number of parts divides it, the last one is shorter.
    """
    least = -(-report_every // STRETCH)
    even = (k for k in range(least, 10 * least) if report_every % k == 0)
    return -(-report_every // next(even, least))


def step_of(run: Run | tuple[Run, ...]) -> Array:
    """Iterations done by a run, or by each of a tuple of runs."""
    return run.step if isinstance(run, Run) else run[0].step


def seeds(loop: Loop, n: int, how: parallel.How = "auto") -> Loop:
    """`n` runs as one; keys gain an axis `[n]`, and so does every metric.

    Under `vmap` every leaf of the run but the steps gains it. Under `map` the run is a tuple of
    runs, and `advance` plays one seed's whole stretch before the next. A loop that plays `n`
    seeds already, as those with environments on the host do, is returned as it is.
    """
    if loop.seeds == n:
        return loop
    how = parallel.how_seeds(how)
    return _mapped(loop, n) if how == "map" else mapped_over(lambda _: loop, (), loop.data)


def _mapped(loop: Loop, n: int) -> Loop:
    def each_key(function, keys):
        return tuple(function(jax.random.clone(keys)[i]) for i in range(n))

    def each(function, runs, keys, *args):
        pairs = [function(r, jax.random.clone(keys)[i], *args) for i, r in enumerate(runs)]
        runs, metrics = zip(*pairs, strict=True)
        return runs, jax.tree.map(lambda *x: jnp.stack(x), *metrics)

    return Loop(
        begin=partial(each_key, loop.begin),
        step=partial(each, loop.step),
        advance=partial(each, loop.advance),
        shapes=partial(each_key, loop.shapes),
        seeds=n,
        data=loop.data,
    )


def mapped_over(make: Callable[[Any], Loop], values: PyTree, data: tuple[PyTree, ...]) -> Loop:
    """The loops that `make` makes of each of `values` `[n]`, as one program on the same data."""

    def begin(keys):
        run = jax.vmap(lambda v, key: make(v).begin(key))(values, keys)
        state = run.state._replace(step=run.state.step[0])
        return run._replace(state=state, step=run.step[0])

    def step(run, keys, *data):
        axes, shared = parallel.seed_axes(run), (None,) * len(data)
        one = jax.vmap(lambda v, *x: make(v).step(*x), (0, axes, 0, *shared), (axes, 0))
        return one(values, run, keys, *data)

    return compiled(begin, step, *data)


def shard(loop: Loop, mesh: Mesh, rules: parallel.Rules = parallel.DEFAULT_RULES) -> Loop:
    """The same loop with its state placed by `rules` and its blocks split over the mesh.

    Raises:
      UserError: the loop's environments live on the host.
    """
    if loop.seeds:
        raise UserError("mesh: environments on the host, or seeds in turn, take one device")

    def begin(key):
        return parallel.constrain(loop.begin(key), mesh, rules)

    def step(run, key, *data):
        with activations(parallel.batch_sharding(mesh, rules)):
            run, metrics = loop.step(parallel.constrain(run, mesh, rules), key, *data)
        return parallel.constrain(run, mesh, rules), metrics

    told = partial(parallel.constrain, mesh=mesh, rules=())  # whole, for every process to read
    return compiled(begin, step, *parallel.place_data(loop.data, mesh, rules), told=told)


def check_memory(loop: Loop, key: Key) -> None:
    """Refuse a run whose arrays cannot fit, before anything is allocated.

    Raises:
      UserError: states the bytes needed and the bytes there.
    """
    needed = nbytes(loop.shapes(key))
    check_fits("the run's arrays", needed, "; reduce loop.capacity, num_seeds or loop.envs")


def nbytes(tree: PyTree) -> int:
    """Bytes of arrays, or of arrays of such shapes."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def check_fits(what: str, needed: int, advice: str = "") -> None:
    """Refuse `what` where it needs more bytes than are available."""
    available = free_bytes()
    if needed > available:
        raise UserError(
            f"memory: {what} need {needed:,} bytes, {available:,} are available{advice}"
        )


def free_bytes() -> int:
    """Bytes that all devices together can still hold, if other processes have what this has."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("bytes_limit" in s for s in stats):
        free = sum(s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats)
        return free * jax.process_count()
    return psutil.virtual_memory().available
