"""The promises that every agent keeps; `tests/agents/catalog.py` lists the agents."""

import collections
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from jaxrl import parallel
from jaxrl.agents import ppo
from jaxrl.types import Agent
from tests.agents.catalog import CASES
from tests.golden import regenerate

MESHES = [(8, 1, 1), (2, 4, 1), (1, 8, 1), (2, 2, 2)]
SEEDS = 3
WITH_EMITTERS = pytest.mark.slow  # default tests do without emitters on which the bits depend

pytestmark = pytest.mark.usefixtures("strict")
every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
once_an_agent = pytest.mark.parametrize(
    "case", [case for case in CASES if not case.variant], ids=lambda case: case.name
)


TRACES = collections.Counter()  # of updates, by the name of the case


@functools.cache
def built(case):
    """The agent, compiled once for all tests."""
    agent = case.make()

    def update(*args):
        TRACES[case.name] += 1
        return agent.update(*args)

    return Agent(*map(jax.jit, agent._replace(update=update)))


@functools.cache
def first(case):
    """The agent, its first state and a batch."""
    agent = built(case)
    return agent, agent.init(jax.random.key(1)), case.batch_of(0)


def stack(*trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def host(tree):
    return jax.tree.map(np.array, tree)


def keys(n):
    return jax.vmap(jax.random.key)(jnp.arange(n))


def updates(agent, state, batch, n):
    """The state after `n` updates on the same batch, each with its own key."""
    for i in range(n):
        state, _ = agent.update(state, batch, jax.random.key(i))
    return state


@every
def test_init_matches_its_shapes(case):
    agent, state, _ = first(case)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))
    shapes = jax.eval_shape(agent.init, jax.random.key(1))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, shapes)


@once_an_agent
def test_an_optimiser_given_with_the_networks_takes_the_place_of_the_agents(case):
    plain = lambda *step: optax.sgd(0.1)  # noqa: E731
    networks = case.module.build(case.spec, case.config)
    fields = [name for name in networks._fields if name.endswith("optimizer")]
    given = {name: plain if case.module is ppo else plain() for name in fields}
    agents = case.make(), case.module.make(case.spec, case.config, networks._replace(**given))
    own, ours = (jax.eval_shape(agent.init, jax.random.key(0)) for agent in agents)
    assert len(jax.tree.leaves(ours)) < len(jax.tree.leaves(own))  # moments of Adam are gone


@every
def test_update_keeps_the_state_compiles_once_and_counts(case):
    agent, old, _ = first(case)
    state, traces = old, []
    for i in range(3):
        state, metrics = agent.update(state, case.batch_of(i), jax.random.key(i))
        assert int(state.step) == i + 1
        traces.append(TRACES[case.name])
    assert traces[0] == traces[1] == traces[2] > 0
    chex.assert_trees_all_equal_structs(state, old)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, old)
    assert metrics
    assert all(jnp.shape(x) == () for x in metrics.values())


@every
def test_same_inputs_give_the_same_bits_and_stay_untouched(case):
    agent, state, batch = first(case)
    before = host((state, batch))
    key = jax.random.key(2)
    one = agent.update(state, batch, key)
    chex.assert_trees_all_equal(agent.update(state, batch, jax.random.clone(key)), one)
    chex.assert_trees_all_equal(host((state, batch)), before)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(one[0], state)


@every
def test_progress_falls_on_a_fixed_batch_and_key(case):
    agent, state, batch = first(case)
    progress = []
    for _ in range(30):
        state, metrics = agent.update(state, batch, jax.random.key(2))
        progress.append(float(metrics[case.module.PROGRESS]))
    chex.assert_tree_all_finite((state, metrics))
    assert progress[-1] < 0.95 * progress[0], progress


@every
def test_act_is_deterministic_without_a_key(case):
    agent, state, batch = first(case)
    obs = case.context(batch)
    mode = agent.act(state, obs)
    assert len(mode) == len(jax.tree.leaves(obs)[0])
    assert mode.shape[mode.ndim - len(case.spec.action.shape) :] == case.spec.action.shape
    assert jnp.issubdtype(mode.dtype, jnp.integer) == case.spec.discrete
    chex.assert_trees_all_equal(mode, agent.act(state, obs))
    drawn = agent.act(state, obs, jax.random.key(0))
    assert drawn.dtype == mode.dtype
    chex.assert_trees_all_equal(drawn, agent.act(state, obs, jax.random.key(0)))
    again = agent.act(state, obs, jax.random.key(1))
    assert bool((drawn != again).any()) == case.stochastic


@functools.cache
def of_thirty(case):
    """An agent whose update is a scan of thirty, in which rounding does not grow."""
    agent = case.make(case.calm)

    def update(state, batch, key):
        def step(state, i):
            return agent.update(state, batch, jax.random.fold_in(key, i))

        return jax.lax.scan(step, state, jnp.arange(30))

    return Agent(agent.init, jax.jit(update), agent.act)


@once_an_agent
@pytest.mark.parametrize(
    "how, tolerance", [pytest.param("map", 0, marks=WITH_EMITTERS), ("vmap", 1e-6)]
)
def test_seeds_equal_single_runs(case, how, tolerance):
    agent = of_thirty(case)
    together = parallel.seeds(agent, SEEDS, how)
    batches = [case.batch_of(i) for i in range(SEEDS)]
    states = jax.jit(together.init)(keys(SEEDS))
    many = jax.jit(together.update)(states, stack(*batches), keys(SEEDS))
    assert many[0].step.shape == ()
    for i, batch in enumerate(batches):
        state = first(case)[0].init(jax.random.key(i))
        one = agent.update(state, batch, jax.random.key(i))
        of_seed = jax.tree.map(lambda x: x[i] if x.ndim else x, many)  # noqa: B023
        chex.assert_trees_all_close(of_seed, one, atol=tolerance, rtol=tolerance)


@once_an_agent
def test_seeds_at_once_keep_conditionals(case):
    agent, state, batch = first(case)
    together = parallel.seeds(agent, SEEDS, "vmap")
    states = jax.eval_shape(together.init, keys(SEEDS))
    alone = str(jax.make_jaxpr(agent.update)(state, batch, jax.random.key(0)))
    many = str(jax.make_jaxpr(together.update)(states, stack(*[batch] * SEEDS), keys(SEEDS)))
    assert many.count(" cond[") == alone.count(" cond[")


BOTH_AXES = (2, 4, 1)  # the mesh of the default tests; compiling for the others takes minutes
ON_MESHES = [
    pytest.param(
        case,
        shape,
        id=f"{case.name}-{'x'.join(map(str, shape))}",
        marks=() if shape == BOTH_AXES else pytest.mark.slow,
    )
    for case in CASES
    for shape in ([BOTH_AXES] if case.variant else MESHES)
]


def on_mesh(agent, shape, state, batch, n):
    """The state after `n` updates on a mesh."""
    mesh = parallel.make_mesh(parallel.MeshConfig(*shape))
    state = jax.device_put(state, parallel.place(state, mesh))
    return updates(parallel.shard(agent, mesh), state, batch, n)


@pytest.mark.parametrize("case, shape", ON_MESHES)
def test_meshes_equal_one_device(case, shape):
    agent, state, batch = first(case)
    one = updates(agent, state, batch, 3)
    many = on_mesh(agent, shape, state, batch, 3)
    chex.assert_trees_all_close(many, one, atol=1e-5, rtol=1e-5)
    split = [x for x in jax.tree.leaves(many) if not x.is_fully_replicated]
    _, fsdp, tensor = shape
    assert bool(split) == (fsdp > 1)
    shares = {x.size // x.addressable_shards[0].data.size for x in split}
    assert shares <= {fsdp, fsdp * tensor}


@pytest.mark.slow
@once_an_agent
def test_meshes_equal_one_device_in_double_precision(case, x64):
    agent = Agent(*map(jax.jit, case.make()))
    state, batch = agent.init(jax.random.key(1)), case.batch(case.spec, jax.random.key(0))
    one = updates(agent, state, batch, 1)
    for shape in MESHES[:3]:
        many = on_mesh(agent, shape, state, batch, 1)
        chex.assert_trees_all_close(many, one, atol=1e-6, rtol=1e-6)


@once_an_agent
def test_a_state_saved_on_one_mesh_is_restored_on_another(case, tmp_path):
    agent, state, _ = first(case)
    here, there = (
        parallel.place(state, parallel.make_mesh(parallel.MeshConfig(*shape)))
        for shape in MESHES[1:3]
    )
    targets = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state, there
    )
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", jax.device_put(state, here))
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", targets)
    chex.assert_trees_all_equal(host(restored), host(state))
    assert jax.tree.map(lambda x: x.sharding, restored) == there


@every
def test_metrics_are_golden(case):
    path = regenerate.path_of(case)
    advice = (
        f"metrics of {case.name} differ from tests/golden/{path.name}. If the change is meant, run "
        f"`python -m tests.golden.regenerate {case.name}` and say in the commit why they moved"
    )
    assert path.exists(), advice
    expected, found = regenerate.read(path), regenerate.metrics_of(case, built(case))
    assert expected.keys() == found.keys(), advice
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=advice)


@WITH_EMITTERS
@once_an_agent
def test_pmap_equals_eight_single_updates(case):
    agent = built(case)
    states = [agent.init(jax.random.key(i)) for i in range(8)]
    batches = [case.batch_of(i) for i in range(8)]
    many = host(jax.pmap(agent.update)(stack(*states), stack(*batches), keys(8)))
    for i, (state, batch) in enumerate(zip(states, batches, strict=True)):
        one = host(agent.update(state, batch, jax.random.key(i)))
        of_device = jax.tree.map(lambda x: x[i], many)  # noqa: B023
        chex.assert_trees_all_close(of_device, one, atol=1e-6, rtol=1e-6)
