"""Windows of work, interleaved, so that whatever else the machine does meets all alike."""

import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from benchmarks import flops

ROUNDS = 5  # windows of each contestant; the first is discarded
CEILING_WINDOWS = 7  # of which the best counts
SIZE, LENGTH = 256, 100  # of the products in the chain, and how many a program holds

Window = Callable[[], float]  # plays for a while and returns a rate, per second
Raw = dict[str, list[float]]  # rates of all windows, by contestant


def window(play: Callable[[], object], amount: float, seconds: float) -> float:
    """Call `play`, which does `amount` of something, until `seconds` have passed; the rate."""
    begin, calls, passed = time.perf_counter(), 0, 0.0
    while not calls or passed < seconds:
        jax.block_until_ready(play())
        calls, passed = calls + 1, time.perf_counter() - begin
    return calls * amount / passed


def interleaved(windows: Mapping[str, Window], rounds: int = ROUNDS) -> Raw:
    """A window of each in turn, `rounds` times over."""
    raw: Raw = {name: [] for name in windows}
    for _ in range(rounds):
        for name, play in windows.items():
            raw[name].append(play())
    return raw


def medians(raw: Raw) -> dict[str, float]:
    """The median of each contestant's windows after the first."""
    return {name: statistics.median(rates[1:]) for name, rates in raw.items()}


def ceiling(seconds: float, size: int = SIZE) -> Window:
    """FLOP/s of a chain of float32 products, the unit in which agents are measured.

    Each product takes the one before; the fixed factor is orthogonal, so that norms stay.
    """
    noise = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
    factor, _ = jnp.linalg.qr(noise)

    def chain(x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (x @ factor, None), x, None, length=LENGTH)[0]

    program = jax.jit(chain).lower(factor).compile()
    return lambda: window(lambda: program(factor), flops.count(chain, factor), seconds)


def bandwidth(seconds: float, size: int) -> Window:
    """Bytes per second, read and written, of an array of `size` bytes that is negated in place."""
    program = jax.jit(jnp.negative, donate_argnums=0)
    held = [jnp.ones(size // 4, jnp.float32)]

    def play() -> jax.Array:
        held[0] = program(held[0])
        return held[0]

    return lambda: window(play, 2 * size, seconds)
