"""Sample, update: learning from a dataset that is on the device one pool at a time.

The loop of `offline`, but every batch is drawn from the pool of its time, uniformly over it. A pool
stays for about as many updates as give each of its transitions one draw; then the next, which has
been read meanwhile, takes its place. So over an epoch every transition counts alike, while the
batches of a few hundred updates come from the same episodes: choose pools of many of them.

Batch and pool are functions of the run's key and step. A run that was killed goes on with the very
batches it would have had, and a checkpoint holds nothing of the reader. All seeds draw from the
same pool, each with its own key.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxrl import parallel
from jaxrl.data.dataset import Dataset, sample
from jaxrl.data.pools import Pools
from jaxrl.loops import offline
from jaxrl.loops.loop import STRETCH, Loop, average, compiled, seeds, shard, step_of
from jaxrl.loops.offline import Config, Draw
from jaxrl.types import Agent, Key, Metrics, PyTree


def make(
    agent: Agent,
    pools: Pools,
    config: Config = Config(),
    draw: Draw = sample,
    num_seeds: int = 1,
    how: parallel.How = "auto",
    mesh: Mesh | None = None,
) -> Loop:
    """The loop of `num_seeds` seeds, which run as under `seeds(loop, num_seeds, how)`.

    Args:
      mesh: over which each pool's blocks are split; one device where there is none.
    """
    offline.check(config, pools.blocks)
    loop = compiled(partial(offline.begin, agent), partial(offline.step, agent, config, draw))
    loop, rules = seeds(loop, num_seeds, how), None
    if mesh is not None and mesh.size > 1:
        rules = parallel.run_rules(mesh, num_seeds)
        parallel.place_data((np.zeros(pools.blocks),), mesh, rules)  # refuses as a pool would
        loop = shard(loop, mesh, rules)
    reader = Reader(pools, updates(pools.size, config.batch_size), mesh, rules)
    play = partial(advance, loop, reader)
    return loop._replace(step=partial(play, n=1), advance=play, seeds=num_seeds, placed=True)


def updates(size: float, batch_size: int) -> int:
    """How long a pool stays: one draw per transition, or a little less.

    It divides `STRETCH` or is a multiple of it, so that few stretches of another length compile.
    """
    n = max(1, round(size / batch_size))
    return n - n % STRETCH or max(d for d in range(1, n + 1) if STRETCH % d == 0)


class Reader:
    """The pool of any update, and the one after it on its way. Pools stay for `each` updates."""

    def __init__(
        self, pools: Pools, each: int, mesh: Mesh | None = None, rules: parallel.Rules | None = None
    ):
        self.pools, self.each, self.mesh, self.rules = pools, each, mesh, rules
        self.number = -1
        self.pool: PyTree = None
        self.ahead: Iterator[Dataset] = iter(())

    def at(self, step: int) -> tuple[PyTree, int]:
        """The pool that update `step` draws from, and the first update that draws from another."""
        number = step // self.each
        if number != self.number:
            self.pool = None  # makes room
            if number != self.number + 1 or self.number < 0:
                self.ahead = self.pools.ahead(number)
            self.number, self.pool = number, self._placed(next(self.ahead))
        return self.pool, (number + 1) * self.each

    def _placed(self, pool: Dataset) -> Dataset:
        if self.mesh is None or self.rules is None:
            return pool
        return parallel.place_data(pool, self.mesh, self.rules)


def advance(loop: Loop, reader: Reader, run: PyTree, key: Key, n: int) -> tuple[PyTree, Metrics]:
    """`n` updates, from as many pools as they take."""
    done = int(step_of(run))
    end, parts = done + n, []
    while done < end:
        pool, until = reader.at(done)
        now = min(until, end) - done
        # A loop compiled without data takes them with every call.
        run, metrics = loop.advance(run, jax.random.clone(key), now, (pool,))  # type: ignore[call-arg]
        parts.append(jax.device_get(metrics))
        done += now
    return run, average(jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *parts))
