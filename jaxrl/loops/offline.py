"""Sample, update: learning from a dataset on the device, without an environment."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.data.dataset import sample
from jaxrl.errors import check_range
from jaxrl.loops import acting
from jaxrl.loops.loop import Loop, Run, compiled
from jaxrl.types import Agent, Key, Metrics

Draw = Callable[[Any, Key, int], Any]  # data in blocks, key, batch size -> a batch

INIT, STEP, SAMPLE, LEARN = range(4)  # names of a run's random draws


@dataclass(frozen=True)
class Config:
    """Sizes of the loop."""

    batch_size: int = 256  # transitions per update
    report_every: int = 1_000  # updates between reports

    @property
    def iteration_steps(self) -> int:
        """Updates per iteration."""
        return 1


def check(config: Config, blocks: int) -> None:
    """Refuse sizes that cannot work.

    Raises:
      UserError: names the setting, what was found and what was expected.
    """
    acting.check_blocks("loop.batch_size", config.batch_size, blocks)
    check_range("loop.report_every", config.report_every, 1)


def make(agent: Agent, dataset: Any, config: Config = Config(), draw: Draw = sample) -> Loop:
    """The loop of one seed, in the dataset's blocks; an iteration is an update.

    The batch of an update, `draw(dataset, key, batch_size)`, is a function of the run's key and
    the update's number. The dataset is an argument of the compiled loop: it is neither in the
    run, nor copied, nor saved.

    Args:
      dataset: arrays in blocks, whose number is `dataset.blocks`.
      draw: transitions of a `Dataset`, unless another way to draw is given with other data.
    """
    check(config, dataset.blocks)
    return compiled(partial(begin, agent), partial(step, agent, config, draw), dataset)


def begin(agent: Agent, key: Key) -> Run:
    """A fresh agent."""
    return Run(agent.init(jax.random.fold_in(key, INIT)), env=(), replay=(), step=jnp.int32(0))


def step(
    agent: Agent, config: Config, draw: Draw, run: Run, key: Key, dataset: Any
) -> tuple[Run, Metrics]:
    """One batch, one update."""
    key = jax.random.fold_in(jax.random.fold_in(key, STEP), run.step)
    batch = draw(dataset, jax.random.fold_in(key, SAMPLE), config.batch_size)
    state, metrics = agent.update(run.state, batch, jax.random.fold_in(key, LEARN))
    run = run._replace(state=state, step=run.step + 1)
    return run, metrics | {"updates": jnp.int32(1)}
