"""Eight host devices, and the two checks that our own updates must pass."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import contextlib

import jax
import pytest

from jaxrl import experiment
from tests import scripts


def pytest_addoption(parser):
    parser.addoption("--devices", type=int, default=8, help="host devices; learning needs one")


def pytest_configure(config):
    """Set how XLA compiles for CPUs, before JAX asks which devices there are.

    The number of devices stands last, so that it holds whatever the shell says. Without fusion
    emitters compiling takes a third of the time, and agents learn slower.
    """
    experiment.compile_small_loops()  # as in the processes that tests start: bits depend on it
    flags = [os.environ["XLA_FLAGS"], scripts.host_devices(config.option.devices)]
    if config.option.markexpr == "not slow":
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join(flags)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Most tests take longer to compile well than to run, here and in the processes they start.

    A hook, since it has to come before fixtures of modules too: bits depend on it.
    """
    quickly = "learning" not in item.path.parts
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quickly))
    jax.config.update("jax_disable_most_optimizations", quickly)


@pytest.fixture
def strict():
    """Forbid reuse of keys and implicit rank promotion, the classic `[B, 1] - [B]`."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.debug_key_reuse(True))
        stack.enter_context(jax.numpy_rank_promotion("raise"))
        yield


@pytest.fixture
def x64():
    """Double precision for the duration of a test."""
    with jax.enable_x64(True):
        yield
