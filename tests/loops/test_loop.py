"""What a compiled loop may not do: talk to the host."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxrl import envs, loops, parallel
from jaxrl.agents import iql, ppo, sac
from jaxrl.data.episodes import from_episodes
from jaxrl.loops import off_policy, offline, on_policy
from jaxrl.loops.loop import compiled, stretch
from tests.data import synthetic

PENDULUM = envs.make("jaxrl/Pendulum-v1")
HIDDEN = {"hidden": (8,)}


def off_policy_loop():
    sizes = off_policy.Config(envs=8, batch_size=8, capacity=64, warmup=8, updates_per_step=0.125)
    return off_policy.make(sac.make(PENDULUM.spec, sac.Config(**HIDDEN)), PENDULUM, sizes, 8)


def on_policy_loop():
    agent = ppo.make(PENDULUM.spec, ppo.Config(**HIDDEN, epochs=1, minibatches=1, blocks=8))
    return on_policy.make(agent, PENDULUM, on_policy.Config(envs=8, steps=4), 8)


def offline_loop():
    data = from_episodes(synthetic.episodes() * 4, 8)
    return offline.make(
        iql.make(data.spec, iql.Config(**HIDDEN)), data, offline.Config(batch_size=8)
    )


LOOPS = [off_policy_loop, on_policy_loop, offline_loop]


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("make", LOOPS)
def test_a_compiled_loop_moves_nothing_between_host_and_device(make, devices):
    mesh = parallel.make_mesh(parallel.MeshConfig(data=devices))
    loop = loops.shard(make(), mesh)
    key = jax.device_put(jax.random.key(0), NamedSharding(mesh, PartitionSpec()))
    run, _ = loop.advance(loop.begin(key), key, 2)
    with jax.transfer_guard("disallow"):
        run, metrics = loop.advance(run, key, 2)
    assert int(run.step) == 4 and metrics["updates"].is_fully_replicated


def lowered(loop):
    """The program of two iterations as text."""
    key = jax.random.key(0)
    advance = loop.advance.func if loop.data else loop.advance
    return advance.lower(loop.shapes(key), key, 2, loop.data).as_text()


@pytest.mark.parametrize("make", LOOPS)
def test_a_compiled_loop_calls_nothing_on_the_host(make):
    assert "callback" not in lowered(make())


def test_a_call_on_the_host_would_be_seen():
    loop = offline_loop()

    def step(run, key, data):
        run, metrics = loop.step(run, key, data)
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        return run, metrics | {"host": jax.pure_callback(np.float32, shape, run.step)}

    assert "callback" in lowered(compiled(loop.begin, step, *loop.data))


@pytest.mark.parametrize(
    "report_every, expected", [(1, 1), (60, 60), (1_000, 100), (125, 25), (997, 100)]
)
def test_a_report_is_played_in_equal_stretches_where_that_is_possible(report_every, expected):
    assert stretch(report_every) == expected


def test_a_pause_shows_the_run_between_reports_and_changes_no_report():
    loop, key = offline_loop(), jax.random.key(0)

    def played(pause):
        parts, seen = [], []
        for run, metrics in loops.train(loop, key, loop.begin(key), 250, 125, pause, parts):
            seen.append((int(run.step), len(parts), metrics))
        return seen

    straight, paused = played(lambda: False), played(lambda: True)
    assert [step for step, *_ in straight] == [125, 250]
    assert [(step, n) for step, n, _ in paused] == [
        *((step, step // 25) for step in (25, 50, 75, 100)),
        (125, 0),
        *((step, step // 25 - 5) for step in (150, 175, 200, 225)),
        (250, 0),
    ]
    chex.assert_trees_all_equal(straight[-1][2], paused[-1][2])
