"""The promises that every agent keeps; `tests/agents/catalog.py` lists the agents."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxrl import parallel
from tests.agents.catalog import CASES
from tests.golden import regenerate

MESHES = [(8, 1, 1), (2, 4, 1), (1, 8, 1)]
SEEDS = 3

every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
strict = pytest.mark.usefixtures("strict")


def chosen(test):
    """One case per agent, for promises that its variants share."""
    first = [case for case in CASES if not case.variant]
    return pytest.mark.parametrize("case", first, ids=lambda case: case.name)(test)


@functools.cache
def built(case, change=None):
    """An agent whose functions are compiled once for all tests."""
    agent = case.make(change)
    return agent._replace(init=jax.jit(agent.init), update=jax.jit(agent.update))


def play(agent, state, batch, key, n):
    """`n` updates on the same batch, each with its own key; metrics are `[n]`."""

    def step(state, i):
        return agent.update(state, batch, jax.random.fold_in(key, i))

    return jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(n)))(state)


def first(case):
    agent = built(case)
    return agent, agent.init(jax.random.key(1)), case.batch_of(0), jax.random.key(2)


def stack(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def copy(tree):
    return jax.tree.map(lambda x: np.array(x), tree)


@every
@strict
def test_init_matches_its_shapes(case):
    agent = case.make()
    shapes = jax.eval_shape(agent.init, jax.random.key(0))
    state = agent.init(jax.random.key(0))
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, shapes)


@every
@strict
def test_update_keeps_the_state_compiles_once_and_counts(case):
    agent = case.make()
    update = jax.jit(agent.update)
    old = agent.init(jax.random.key(1))
    state = old
    for i in range(3):
        state, metrics = update(state, case.batch_of(i), jax.random.key(i))
        assert int(state.step) == i + 1
    assert update._cache_size() == 1
    chex.assert_trees_all_equal_structs(state, old)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, old)
    assert metrics
    assert all(jnp.shape(x) == () for x in metrics.values())


@every
@strict
def test_same_inputs_give_the_same_bits_and_stay_untouched(case):
    agent, state, batch, key = first(case)
    before = copy((state, batch))
    a = agent.update(state, batch, key)
    b = agent.update(state, batch, jax.random.clone(key))
    chex.assert_trees_all_equal(a, b)
    chex.assert_trees_all_equal((state, batch), before)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(a[0], state)


@every
@strict
def test_learning_progresses_on_a_fixed_batch_and_key(case):
    agent, state, batch, key = first(case)

    def step(state, _):
        return agent.update(state, batch, jax.random.clone(key))

    state, metrics = jax.jit(lambda s: jax.lax.scan(step, s, length=30))(state)
    chex.assert_tree_all_finite((state, metrics))
    progress = metrics[case.module.PROGRESS]
    assert progress[-1] < 0.95 * progress[0], progress


@every
@strict
def test_act_is_deterministic_without_a_key(case):
    agent, state, batch, key = first(case)
    obs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[batch.reward.ndim :]), batch.obs)
    mode = agent.act(state, obs)
    n = batch.reward.size
    assert mode.shape == (n, *case.spec.action.shape)
    assert jnp.issubdtype(mode.dtype, jnp.integer) == case.spec.discrete
    chex.assert_trees_all_equal(mode, agent.act(state, obs))
    drawn = agent.act(state, obs, key)
    assert drawn.dtype == mode.dtype
    chex.assert_trees_all_equal(drawn, agent.act(state, obs, jax.random.clone(key)))
    assert not (drawn == agent.act(state, obs, jax.random.key(99))).all()


def three_seeds(case, how, change=None):
    """30 updates of three seeds together, and of each alone."""
    agent = built(case, change)
    keys = jax.vmap(jax.random.key)(jnp.arange(SEEDS))
    batches = [case.batch_of(i) for i in range(SEEDS)]
    together = parallel.seeds(agent, SEEDS, how)

    def step(state, i):
        fold = jax.vmap(jax.random.fold_in, (0, None))
        return together.update(state, stack(batches), fold(jax.random.clone(keys), i))

    state = together.init(jax.random.clone(keys))
    many = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(30)))(state)
    alone = [
        play(agent, agent.init(jax.random.key(i)), batch, jax.random.key(i), 30)
        for i, batch in enumerate(batches)
    ]
    return many, alone


def of_seed(state, i):
    """Seed `i` of a state whose step is shared."""
    return jax.tree.map(lambda x: x[i], state._replace(step=state.step[None].repeat(SEEDS)))


@every
@strict
def test_seeds_in_turn_equal_single_runs_bit_for_bit(case):
    (state, metrics), alone = three_seeds(case, "map")
    for i, (one, one_metrics) in enumerate(alone):
        chex.assert_trees_all_equal(of_seed(state, i), one)
        chex.assert_trees_all_equal({k: v[:, i] for k, v in metrics.items()}, one_metrics)


@chosen
@strict
def test_seeds_at_once_equal_single_runs(case):
    (state, _), alone = three_seeds(case, "vmap", case.calm)
    assert state.step.shape == ()
    for i, (one, _) in enumerate(alone):
        chex.assert_trees_all_close(of_seed(state, i), one, atol=1e-6, rtol=1e-6)


@chosen
@strict
def test_seeds_at_once_keep_conditionals(case):
    agent, state, batch, key = first(case)
    keys = jax.vmap(jax.random.key)(jnp.arange(SEEDS))
    together = parallel.seeds(agent, SEEDS, "vmap")
    states = together.init(jax.random.clone(keys))
    alone = str(jax.make_jaxpr(agent.update)(state, batch, key))
    many = str(jax.make_jaxpr(together.update)(states, stack([batch] * SEEDS), keys))
    assert many.count(" cond[") == alone.count(" cond[")


def meshes(case):
    """A variant's setting is shown on one mesh that splits both rows and parameters."""
    return [(2, 4, 1)] if case.variant else MESHES


def on_mesh(shape, agent, state, batch, key, n):
    mesh = parallel.make_mesh(parallel.MeshConfig(*shape))
    agent = parallel.shard(agent, mesh)
    return play(agent, jax.device_put(state, parallel.place(state, mesh)), batch, key, n)[0]


ON_MESHES = [
    pytest.param(case, shape, id=f"{case.name}-{'x'.join(map(str, shape))}")
    for case in CASES
    for shape in meshes(case)
]


@pytest.mark.parametrize("case, shape", ON_MESHES)
@strict
def test_meshes_equal_one_device(case, shape):
    agent = built(case, case.wide)
    batch, key = case.batch_of(0), jax.random.key(2)
    state = agent.init(jax.random.key(1))
    one = play(agent, state, batch, key, 3)[0]
    many = on_mesh(shape, agent, state, batch, key, 3)
    chex.assert_trees_all_close(many, one, atol=1e-5, rtol=1e-5)
    split = [x for x in jax.tree.leaves(many) if not x.is_fully_replicated]
    assert bool(split) == (shape[1] > 1)
    assert all(x.addressable_shards[0].data.size * shape[1] == x.size for x in split)


@chosen
@pytest.mark.parametrize("shape", MESHES)
def test_meshes_equal_one_device_in_double_precision(case, shape, x64, strict):
    agent = case.make(case.wide)
    batch, key = case.batch_of(0), jax.random.key(2)
    state = jax.jit(agent.init)(jax.random.key(1))
    one = play(agent, state, batch, key, 1)[0]
    many = on_mesh(shape, agent, state, batch, key, 1)
    chex.assert_trees_all_close(many, one, atol=1e-6, rtol=1e-6)


@chosen
def test_a_state_saved_on_one_mesh_is_restored_on_another(case, tmp_path):
    small = parallel.make_mesh(parallel.MeshConfig(2, 4, 1))
    large = parallel.make_mesh(parallel.MeshConfig(1, 8, 1))
    agent = case.make(case.wide)
    state = parallel.shard(agent, small).init(jax.random.key(1))
    targets = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        state,
        parallel.place(state, large),
    )
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", targets)
    chex.assert_trees_all_equal(copy(restored), copy(state))
    assert [x.sharding for x in jax.tree.leaves(restored)] == [
        x.sharding for x in jax.tree.leaves(targets)
    ]


@every
def test_metrics_are_golden(case):
    path = regenerate.path_of(case)
    advice = (
        f"metrics of {case.name} differ from tests/golden/{path.name}. If the change is meant, run "
        "`python -m tests.golden.regenerate` and say in the commit why the numbers moved"
    )
    assert path.exists(), advice
    expected, found = regenerate.read(path), regenerate.metrics_of(case)
    assert expected.keys() == found.keys(), advice
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=advice)


@chosen
def test_pmap_equals_eight_single_updates(case):
    agent = built(case)
    states = [agent.init(jax.random.key(i)) for i in range(8)]
    batches = [case.batch_of(i) for i in range(8)]
    keys = jax.vmap(jax.random.key)(jnp.arange(8))
    many, metrics = jax.pmap(agent.update)(stack(states), stack(batches), keys)
    for i, (state, batch) in enumerate(zip(states, batches, strict=True)):
        one = agent.update(state, batch, jax.random.key(i))
        slice_i = jax.tree.map(lambda x: x[i], copy((many, metrics)))  # noqa: B023
        chex.assert_trees_all_close(slice_i, copy(one), atol=1e-6, rtol=1e-6)
