import re
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxrl import parallel
from jaxrl.agents import sac
from jaxrl.errors import UserError
from jaxrl.parallel import MeshConfig, make_mesh
from jaxrl.types import Agent
from tests.agents.catalog import FLAT, transitions
from tests.loops.scripted import keys

pytestmark = pytest.mark.usefixtures("strict")
COLLECTIVE = re.compile(r"\b(all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)")


@pytest.mark.parametrize(
    "config, shape",
    [
        (MeshConfig(), (8, 1, 1)),
        (MeshConfig(fsdp=4), (2, 4, 1)),
        (MeshConfig(data=1), (1, 1, 1)),
        (MeshConfig(data=2, fsdp=2, tensor=2), (2, 2, 2)),
        (MeshConfig(fsdp=2, tensor=4), (1, 2, 4)),
    ],
)
def test_data_takes_the_devices_that_are_left(config, shape):
    mesh = make_mesh(config)
    assert tuple(mesh.shape.items()) == tuple(zip(("data", "fsdp", "tensor"), shape, strict=True))


@pytest.mark.parametrize(
    "config, message",
    [
        (MeshConfig(data=16), r"mesh \(16, 1, 1\) needs 16 devices; there are 8"),
        (MeshConfig(fsdp=3), r"mesh \(3, 3, 1\) needs 9 devices; there are 8"),
        (MeshConfig(fsdp=16), r"needs 16 devices"),
        (MeshConfig(fsdp=0), "expected fsdp and tensor at least 1"),
        (MeshConfig(data=-1), "data at least 0"),
    ],
)
def test_impossible_meshes_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        make_mesh(config)


def test_the_environment_may_say_what_mesh_is_meant(monkeypatch):
    monkeypatch.delenv("JAXRL_MESH", raising=False)
    assert parallel.mesh_of_environment() == MeshConfig()
    monkeypatch.setenv("JAXRL_MESH", "4,2,1")
    assert parallel.mesh_of_environment() == MeshConfig(data=4, fsdp=2, tensor=1)
    monkeypatch.setenv("JAXRL_MESH", "4x2")
    with pytest.raises(UserError, match="JAXRL_MESH: found '4x2', expected data,fsdp,tensor"):
        parallel.mesh_of_environment()


def test_rows_of_one_process_are_the_whole_batch():
    mesh = make_mesh()
    batch = parallel.global_batch({"x": np.arange(16.0)}, mesh)
    assert batch["x"].sharding.spec == P(("data", "fsdp"))
    np.testing.assert_array_equal(parallel.whole(batch)["x"], np.arange(16.0))


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((), P()),
        ((64,), P("fsdp")),  # 16 rows each
        ((60,), P()),  # 15 rows each
        ((66,), P()),  # not divisible
        ((17, 256), P(None, "fsdp")),
        ((256, 17), P("fsdp")),
        ((256, 128), P("fsdp")),
        ((4, 128, 64), P(None, "fsdp")),  # never the four stacked layers
    ],
)
def test_the_largest_dimension_is_split_where_rows_remain(shape, expected):
    assert parallel.largest_dimension(shape, make_mesh(MeshConfig(fsdp=4))) == expected
    assert parallel.largest_dimension(shape, make_mesh()) == P()


def test_the_first_rule_that_matches_a_path_places_a_leaf():
    mesh = make_mesh(MeshConfig(fsdp=4))
    wide = jnp.zeros((8, 256))
    tree = {"env": {"x": wide}, "state": {"torso": wide, "head": wide, "step": wide}, "other": wide}
    rules = ((r"^env/", parallel.split_axis(0)), (r"torso", P("fsdp")), (r"head$", P("data")))
    specs = jax.tree.map(lambda s: s.spec, parallel.place(tree, mesh, rules))
    assert specs["env"]["x"] == P(("data", "fsdp"))
    assert specs["state"] == {"torso": P("fsdp"), "head": P("data"), "step": P()}
    assert specs["other"] == P()


def test_an_axis_that_devices_do_not_divide_is_refused():
    with pytest.raises(UserError, match="8 devices.*do not divide an axis of 4.*--blocks"):
        parallel.place({"replay": {"x": jnp.zeros((4, 3))}}, make_mesh())


SAC = sac.Config(hidden=(16,))


@pytest.mark.parametrize("size, near", [(12, "[8, 16]"), (4, "[8]"), (17, "[16, 24]")])
def test_a_batch_that_devices_do_not_divide_is_refused(size, near):
    agent = parallel.shard(sac.make(FLAT, SAC), make_mesh())
    state = jax.eval_shape(agent.init, jax.random.key(0))
    batch = transitions(FLAT, jax.random.key(0), (size,))
    message = f"a batch of {size} cannot be split over 8 devices; try {near}"
    with pytest.raises(UserError, match=re.escape(message)):
        jax.eval_shape(agent.update, state, batch, jax.random.key(0))


def stacked(n):
    return jax.tree.map(lambda x: jnp.stack([x] * n), transitions(FLAT, jax.random.key(0)))


def compiled_text(agent, key, batch):
    state = jax.eval_shape(agent.init, key)
    return agent.update.lower(state, batch, key).compile().as_text()


def test_seeds_spread_over_devices_do_not_talk():
    together = parallel.seeds(sac.make(FLAT, SAC), 16, "vmap")
    spread = parallel.shard(together, make_mesh(), parallel.SEED_AXIS)
    assert not COLLECTIVE.search(compiled_text(spread, keys(16), stacked(16)))
    split = parallel.shard(sac.make(FLAT, SAC), make_mesh())  # one seed's batch must
    batch = transitions(FLAT, jax.random.key(0))
    assert COLLECTIVE.search(compiled_text(split, jax.random.key(0), batch))


def test_seeds_spread_over_devices_equal_single_runs():
    agent = sac.make(FLAT, SAC)
    spread = parallel.shard(parallel.seeds(agent, 8, "vmap"), make_mesh(), parallel.SEED_AXIS)
    many, _ = spread.update(spread.init(keys(8)), stacked(8), keys(8))
    state = jax.jit(agent.init)(jax.random.key(5))
    one, _ = jax.jit(agent.update)(state, transitions(FLAT, jax.random.key(0)), jax.random.key(5))
    kernel = many.critic.params["params"]["MLP_0"]["Dense_0"]["kernel"]
    assert len({str(s.index) for s in kernel.addressable_shards}) == 8
    of_seed = jax.tree.map(lambda x: x[5] if x.ndim else x, many)
    chex.assert_trees_all_close(jax.device_get(of_seed), jax.device_get(one), atol=1e-5)


def test_seeds_of_a_split_agent_equal_single_runs():
    """Two seeds along `data`, the parameters and the batch of each over four devices of `fsdp`."""
    agent, mesh = sac.make(FLAT, sac.Config(hidden=(64, 64))), make_mesh(MeshConfig(2, 4, 1))
    many = parallel.seeds(parallel.shard(agent, mesh, axes=("fsdp",)), 2, axis="data")
    state, metrics = jax.jit(many.update)(jax.jit(many.init)(keys(2)), stacked(2), keys(2))
    kernel = state.critic.params["params"]["MLP_0"]["Dense_1"]["kernel"]
    assert len({str(s.index) for s in kernel.addressable_shards}) == 8
    first = jax.jit(agent.init)(jax.random.key(1))
    batch = transitions(FLAT, jax.random.key(0))
    one, alone = jax.jit(agent.update)(first, batch, jax.random.key(1))
    of_seed = jax.tree.map(lambda x: x[1] if x.ndim else x, jax.device_get(state))
    chex.assert_trees_all_close(of_seed, jax.device_get(one), atol=1e-5)
    chex.assert_trees_all_close(metrics["critic_loss"][1], alone["critic_loss"], rtol=1e-5)


def test_a_donated_state_is_deleted_and_others_are_not():
    agent, mesh = sac.make(FLAT, SAC), make_mesh(MeshConfig(data=1))
    batch = transitions(FLAT, jax.random.key(0))
    for donate in (False, True):
        sharded = parallel.shard(agent, mesh, donate=donate)
        state = sharded.init(jax.random.key(0))
        sharded.update(state, batch, jax.random.key(1))
        assert jax.tree.leaves(state.actor.params)[0].is_deleted() == donate


class Delayed(NamedTuple):
    step: jax.Array
    fast: jax.Array
    slow: jax.Array


def delayed_agent():
    """Moves `slow` on every second update alone."""

    def init(key):
        return Delayed(jnp.int32(0), jax.random.normal(key, (3,)), jnp.zeros(3))

    def update(state, batch, key):
        slow = jax.lax.cond(state.step % 2 == 1, lambda s: s.slow + s.fast, lambda s: s.slow, state)
        fast = state.fast + batch + jax.random.normal(key, (3,))
        return Delayed(state.step + 1, fast, slow), {"fast": fast.sum()}

    return Agent(init, update, lambda state, obs, key=None: obs)


def conditionals(function, *args):
    return str(jax.make_jaxpr(function)(*args)).count(" cond[")


def test_seeds_at_once_keep_conditionals_since_they_share_their_step():
    agent, batch = delayed_agent(), jnp.zeros((3, 3))
    together = parallel.seeds(agent, 3, "vmap")
    state = together.init(keys(3))
    assert conditionals(together.update, state, batch, keys(3)) == 1
    batched = state._replace(step=jnp.zeros(3, jnp.int32))  # what would happen without
    assert conditionals(jax.vmap(agent.update), batched, batch, keys(3)) == 0


@pytest.mark.parametrize("how", ["map", "vmap"])
def test_seeds_of_a_delayed_agent_equal_single_runs(how):
    agent, batch = delayed_agent(), jnp.arange(9.0).reshape(3, 3)
    together = parallel.seeds(agent, 3, how)
    state = together.init(keys(3))
    for _ in range(3):
        state, metrics = together.update(state, batch, keys(3))
    assert metrics["fast"].shape == (3,)
    assert int(state.step) == 3
    for i in range(3):
        one = agent.init(jax.random.key(i))
        for _ in range(3):
            one, _ = agent.update(one, batch[i], jax.random.key(i))
        np.testing.assert_allclose(state.slow[i], one.slow, rtol=1e-6)
        np.testing.assert_allclose(state.fast[i], one.fast, rtol=1e-6)


def test_a_key_per_seed_is_expected():
    together = parallel.seeds(delayed_agent(), 3, "vmap")
    with pytest.raises(UserError, match=r"keys: found shape \(2,\).*\(3,\)"):
        together.init(keys(2))


def test_seeds_run_in_turn_on_one_cpu_and_at_once_elsewhere():
    assert parallel.how_seeds("auto") == "map"
    assert parallel.how_seeds("auto", make_mesh(MeshConfig(data=1))) == "map"
    assert parallel.how_seeds("auto", make_mesh()) == "vmap"
    assert parallel.how_seeds("vmap") == "vmap"


def test_seeds_fill_a_mesh_that_they_divide():
    mesh = make_mesh(MeshConfig(fsdp=4))
    assert parallel.run_rules(mesh, 16) is parallel.SEED_AXIS
    run = {name: {"x": jnp.zeros((3, 8, 5))} for name in ("replay", "env")}
    run |= {"state": {"x": jnp.zeros((3, 256))}, "dataset": {"x": jnp.zeros((8, 5))}}
    specs = jax.tree.map(lambda s: s.spec, parallel.place(run, mesh, parallel.run_rules(mesh, 3)))
    assert specs["replay"]["x"] == P(None, ("data", "fsdp"))
    assert specs["state"]["x"] == P(None, "fsdp")
    assert specs["dataset"]["x"] == P(("data", "fsdp"))  # shared by all seeds
