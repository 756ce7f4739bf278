"""Eight host devices, and the two checks that our own updates must pass."""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import contextlib

import jax
import pytest


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
