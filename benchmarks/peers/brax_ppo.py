"""PPO of brax, driven by `benchmarks.peer`: a line in asks for a window, a line out is its rate.

It runs in an environment of its own, so it imports nothing of ours. `train` returns only at the
end, so a window is played between two calls of its progress function, which waits its turn.
"""

import json
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp

ANSWERS, sys.stdout = sys.stdout, sys.stderr  # brax prints while it is imported

import serving  # noqa: E402
from brax import envs  # noqa: E402
from brax.training.agents.ppo import networks, train  # noqa: E402

ENVS, UNROLL, MINIBATCHES, EPOCHS = 256, 20, 8, 4
EPOCH = 10 * ENVS * UNROLL  # environment steps between two calls of the progress function
PACKAGES = ("brax", "jax", "flax", "mujoco")


def replicate(tree, devices):
    """What `jax.device_put_replicated`, gone from JAX, did: brax 0.14.2 still calls it."""
    return jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree)


class Turns:
    """Called after each epoch: answers once a window is long enough, and waits for the next."""

    def __init__(self, seconds: float):
        self.seconds, self.begin, self.first = seconds, 0.0, 0

    def __call__(self, step: int, metrics: dict) -> None:
        passed = time.perf_counter() - self.begin
        if self.begin and passed < self.seconds:
            return
        if self.begin:
            print(json.dumps((step - self.first) / passed), file=ANSWERS, flush=True)
        if not sys.stdin.readline():
            sys.exit()
        self.begin, self.first = time.perf_counter(), step


def main() -> None:
    """Train until there is nothing more to read."""
    jax.device_put_replicated = replicate
    serving.introduce(PACKAGES, jax.default_backend(), ANSWERS)
    train.train(
        envs.get_environment("hopper", backend="spring"),
        num_timesteps=100_000 * EPOCH,
        num_evals=100_001,
        run_evals=False,
        progress_fn=Turns(float(sys.argv[1])),
        max_devices_per_host=1,
        episode_length=1000,
        num_envs=ENVS,
        unroll_length=UNROLL,
        batch_size=ENVS // MINIBATCHES,
        num_minibatches=MINIBATCHES,
        num_updates_per_batch=EPOCHS,
        learning_rate=3e-4,
        entropy_cost=1e-2,
        discounting=0.97,
        reward_scaling=10.0,
        normalize_observations=True,
        network_factory=partial(
            networks.make_ppo_networks,
            policy_hidden_layer_sizes=(32,) * 4,
            value_hidden_layer_sizes=(256,) * 5,
        ),
    )


if __name__ == "__main__":
    main()
