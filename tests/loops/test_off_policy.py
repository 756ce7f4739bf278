import dataclasses
import re
from fractions import Fraction

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import loops, parallel
from jaxrl.agents import sac
from jaxrl.envs.base import auto_reset
from jaxrl.errors import UserError
from jaxrl.loops import off_policy
from jaxrl.types import Spec
from tests.loops.scripted import ANSWER, counter_env, counting_agent, keys

pytestmark = pytest.mark.usefixtures("strict")
SMALL = off_policy.Config(batch_size=4, capacity=100, warmup=10)


def counted(env=None, blocks=0, **changes):
    """A loop in which every number is known."""
    config = dataclasses.replace(SMALL, **changes)
    return off_policy.make(counting_agent(), env or counter_env(), config, blocks)


def played(loop, n, seed=0):
    return loop.advance(loop.begin(jax.random.key(seed)), jax.random.key(seed), n)


@pytest.mark.parametrize("terminal_at, discount", [(-1, 1), (3, 0)])
def test_the_successor_is_the_true_one_and_the_next_step_starts_afresh(terminal_at, discount):
    run, _ = played(counted(counter_env(3, terminal_at)), 5)
    held = jax.tree.map(lambda x: x[0, :5, 0].tolist(), run.replay)
    assert held.obs == [[0], [1], [2], [0], [1]]
    assert held.next_obs == [[1], [2], [3], [1], [2]]
    assert held.reward == [1, 2, 3, 1, 2]
    assert held.last == [False, False, True, False, False]
    assert held.discount == [1, 1, discount, 1, 1]


@pytest.mark.parametrize("envs", [1, 2])
@pytest.mark.parametrize("ratio", [0.25, 1, 4, 1.5])
def test_updates_keep_their_ratio_to_steps(ratio, envs):
    loop = counted(updates_per_step=ratio, envs=envs, warmup=10)
    run, metrics = played(loop, 41)
    per_iteration, first = Fraction(ratio) * envs, 10 // envs
    due = int(41 * per_iteration) - int((first - 1) * per_iteration)
    assert int(run.state.step) == int(metrics["updates"]) == due
    # each update reports how many came before it; reports average over updates
    assert float(metrics["before"]) == pytest.approx((due - 1) / 2)


def test_updates_due_add_up_without_overflow():
    for ratio in (Fraction(1, 4), Fraction(3, 2), Fraction(9999, 10_000), Fraction(7)):
        total = sum(int(off_policy.updates_due(ratio, jnp.int32(i))) for i in range(1, 50))
        assert total == int(49 * ratio)
        late = off_policy.updates_due(ratio, jnp.int32(2**31 - 1))
        assert int(late) in (int(ratio), int(ratio) + 1)


def test_warm_up_is_random_and_the_agent_acts_from_then_on():
    run, metrics = played(counted(warmup=6), 5)
    assert int(metrics["updates"]) == 0
    run, _ = played(counted(warmup=6), 12)
    actions = np.asarray(run.replay.action[0, :12, 0, 0])
    assert np.unique(actions[:6]).size == 6
    assert np.abs(actions[:6]).max() <= 1
    np.testing.assert_array_equal(actions[6:], np.float32(ANSWER))


def test_warm_up_by_the_agent_acts_as_the_agent_from_the_first_step():
    run, metrics = played(counted(warmup=6, warmup_actions="agent"), 5)
    assert int(metrics["updates"]) == 0
    np.testing.assert_array_equal(run.replay.action[0, :5, 0, 0], np.float32(ANSWER))


def test_batches_are_mixed_with_data():
    """Half of every batch are rows of the data, which pay a hundred."""

    def mix(draw, key, batch_size, paid):
        batch = draw(key, batch_size // 2)
        return batch._replace(reward=jnp.concatenate([0 * batch.reward, paid]))

    data = (jnp.full(2, 100.0),)
    loop = off_policy.make(counting_agent(), counter_env(), SMALL, mix=mix, data=data)
    run, metrics = played(loop, 12)
    assert float(run.state.seen) == 200 * float(metrics["updates"]) == 600
    assert loop.data == data


def test_updates_see_every_step_up_to_the_present_one():
    """With a ring of one row, all that a batch can hold is the newest transition."""
    loop = counted(capacity=4, envs=4, warmup=4, blocks=1)
    run, _ = played(loop, 5)
    assert float(run.state.seen) == 4 * (4 * (1 + 2 + 3 + 1 + 2))  # 4 updates a step, 4 rows each


def test_the_first_number_that_is_not_finite_is_remembered_and_replaced():
    run, _ = played(counted(counter_env(time_limit=9, broken_at=(5, 7))), 20)
    assert run.env.failed_at.tolist() == [4] * len(run.env.failed_at)
    chex.assert_tree_all_finite((run.state, run.replay, run.env.obs))
    assert float(run.replay.reward[0, 4, 0]) == 0
    assert (played(counted(), 20)[0].env.failed_at == -1).all()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 11}, "loop.batch_size: found 11, expected at most 10"),
        ({"batch_size": 64, "capacity": 50, "warmup": 100}, "at most 50"),
        ({"envs": 6, "blocks": 4}, r"loop.envs: 6 does not split into 4 blocks; try \[4, 8\]"),
        ({"envs": 4, "batch_size": 6}, "loop.batch_size: 6 does not split into 4"),
        ({"envs": 0}, "loop.envs: found 0"),
        ({"capacity": 3, "envs": 4}, "capacity: found 3"),
        ({"n_step": 0}, "loop.n_step: found 0"),
        ({"updates_per_step": 0.0}, "loop.updates_per_step: found 0"),
        ({"updates_per_step": 1e-5}, "loop.updates_per_step: found 1e-05"),
    ],
)
def test_sizes_that_cannot_work_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        counted(**changes)


def test_a_run_that_does_not_fit_is_refused_before_it_starts():
    loops.check_memory(counted(), jax.random.key(0))
    with pytest.raises(UserError, match=r"need \d+,.* bytes.*reduce loop.capacity"):
        loops.check_memory(counted(capacity=10**11), jax.random.key(0))


def test_n_step_rewards_are_discounted_by_the_loops_gamma():
    config = dataclasses.replace(SMALL, capacity=2, warmup=2, batch_size=2, n_step=3)
    loop = off_policy.make(counting_agent(), counter_env(99), config, gamma=0.5)
    run, _ = played(loop, 2)
    # two draws, each 1 + 0.5 * 2 from the older row or 2 from the newest
    assert float(run.state.seen) == 4.0


def cheetah_sized(agent_config, **changes):
    spec = Spec.continuous(17, 6)

    def reset(key):
        return (), jax.random.normal(key, (17,))

    def dynamics(state, action, key):
        obs = jax.random.normal(key, (17,))
        return state, obs, action.sum(), jnp.array(False)

    env = auto_reset(spec, reset, dynamics, 1000)
    config = off_policy.Config(**changes)
    return off_policy.make(sac.make(spec, agent_config), env, config)


@pytest.mark.parametrize("updates_per_step", [1, 0.5])
def test_a_million_rows_are_never_copied(updates_per_step):
    loop = cheetah_sized(sac.Config(), updates_per_step=updates_per_step)
    key = jax.random.key(0)
    run = loop.shapes(key)
    compiled = loop.advance.lower(run, key, 1000).compile()
    copies = re.findall(r"\[1,1000000,.*\bcopy\(", compiled.as_text())
    ring = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(run.replay))
    assert ring > 160e6
    assert not copies
    assert compiled.memory_analysis().temp_size_in_bytes < ring / 10


SAC = sac.Config(hidden=(16,), adam_eps=1e-3)


def test_seeds_in_turn_equal_single_runs_bit_for_bit():
    loop = cheetah_sized(SAC, batch_size=8, capacity=64, warmup=8)
    together = loops.seeds(loop, 3, "map")
    runs, metrics = together.advance(together.begin(keys(3)), keys(3), 30)
    for i in range(3):
        run, own = played(loop, 30, seed=i)
        chex.assert_trees_all_equal(runs[i], run)
        chex.assert_trees_all_equal({k: v[i] for k, v in metrics.items()}, own)


def test_seeds_at_once_share_their_step_and_keep_conditionals():
    loop = counted()
    together = loops.seeds(loop, 3, "vmap")
    run, metrics = together.advance(together.begin(keys(3)), keys(3), 20)
    assert run.step.shape == run.state.step.shape == ()
    assert metrics["updates"].tolist() == [11, 11, 11]
    for i in range(3):
        alone, _ = played(loop, 20, seed=i)
        np.testing.assert_array_equal(run.replay.action[i], alone.replay.action)
        np.testing.assert_allclose(run.state.seen[i], alone.state.seen)
    key = jax.random.key(0)
    single = str(jax.make_jaxpr(loop.step)(loop.shapes(key), key))
    many = str(jax.make_jaxpr(together.step)(together.shapes(keys(3)), keys(3)))
    assert many.count(" cond[") == single.count(" cond[") > 0


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 4, 1)])
def test_meshes_play_what_one_device_plays(shape):
    loop = cheetah_sized(SAC, envs=8, batch_size=16, capacity=64, warmup=16, updates_per_step=0.25)
    one, _ = played(loop, 4)
    mesh = parallel.make_mesh(parallel.MeshConfig(*shape))
    many, _ = played(loops.shard(loop, mesh), 4)
    assert int(many.state.step) == 6
    chex.assert_trees_all_close(many, one, atol=1e-5, rtol=1e-5)
    assert len({str(s.index) for s in many.replay.obs.addressable_shards}) == 8


def test_a_mesh_that_splits_blocks_is_refused():
    loop = cheetah_sized(SAC, envs=4, batch_size=16, capacity=64, warmup=16)
    sharded = loops.shard(loop, parallel.make_mesh())
    with pytest.raises(UserError, match="--blocks"):
        sharded.begin(jax.random.key(0))


def test_training_resumes_to_the_same_bits():
    loop, key = counted(), jax.random.key(0)
    straight = [run for run, _ in loops.train(loop, key, loop.begin(key), 30, 30)][-1]
    *_, (half, _) = loops.train(loop, jax.random.key(0), loop.begin(jax.random.key(0)), 13, 5)
    *_, (resumed, _) = loops.train(loop, jax.random.key(0), half, 30, 7)
    chex.assert_trees_all_equal(resumed, straight)
