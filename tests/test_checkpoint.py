import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import checkpoint, parallel, provenance
from jaxrl.agents import cql, sac
from jaxrl.data import replay
from jaxrl.errors import UserError
from jaxrl.loops import Run
from jaxrl.types import Spec

SPEC = Spec.continuous(3, 2)
CONFIG = sac.Config(hidden=(8, 8), normalize_obs=True)


def run_of(step: int, rng=True) -> Run:
    """A run with everything that a run may hold: keys, integers, numpy arrays, nothing."""
    state = jax.jit(sac.make(SPEC, CONFIG).init)(jax.random.key(step))
    env = {
        "key": jax.random.key(step),
        "host": np.array([2**60 + step], np.uint64),
        "none": None,
        "empty": (),
        "unused": jnp.zeros((2, 0)),  # as simulators have
    }
    return Run(state, env, {"ring": jnp.full((4, 3), step, jnp.bfloat16)}, jnp.int32(step))


def same(a, b) -> bool:
    def data(x):
        if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return np.asarray(jax.random.key_data(x))
        return np.asarray(x)

    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(data(x), data(y)) and x.dtype == y.dtype for x, y in pairs)


def test_round_trip_keeps_every_leaf(tmp_path):
    for run in (run_of(7), (run_of(7), run_of(8))):
        directory = tmp_path / type(run).__name__
        with checkpoint.Checkpoints(directory) as saved:
            assert saved.save(7, run)
        fresh = run_of(1) if isinstance(run, Run) else (run_of(1), run_of(2))
        with checkpoint.Checkpoints(directory) as saved:
            assert same(saved.resume(lambda fresh=fresh: fresh), run)


def test_begins_where_there_is_nothing(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as saved:
        assert same(saved.resume(lambda: run_of(3)), run_of(3))


def test_what_was_saved_is_not_what_came_after(tmp_path):
    """A save runs behind; the arrays it was given are donated meanwhile."""
    ring = jnp.zeros(5_000_000)
    run = Run(run_of(0).state, (), ring, jnp.int32(0))
    bump = jax.jit(lambda x: x + 1, donate_argnums=0)
    with checkpoint.Checkpoints(tmp_path) as saved:
        saved.save(1, run)
        for _ in range(5):
            ring = bump(ring)
        saved.wait()
        restored = saved.resume(lambda: run._replace(replay=jnp.ones(5_000_000)))
    assert not np.asarray(restored.replay).any()


def test_keeps_the_newest(tmp_path):
    with checkpoint.Checkpoints(tmp_path, keep=2) as saved:
        for step in (1, 2, 3):
            saved.save(step, run_of(step))
            saved.wait()
        assert sorted(saved.manager.all_steps()) == [2, 3]
        assert int(saved.resume(lambda: run_of(0)).step) == 3


def damage(directory):
    files = [path for path in directory.rglob("*") if path.is_file()]
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_falls_back_to_the_one_before(tmp_path, capsys):
    with checkpoint.Checkpoints(tmp_path) as saved:
        for step in (1, 2):
            saved.save(step, run_of(step))
            saved.wait()
    damage(tmp_path / "2")
    with checkpoint.Checkpoints(tmp_path) as saved:
        assert same(saved.resume(lambda: run_of(0)), run_of(1))
        assert "checkpoint 2 cannot be read" in capsys.readouterr().err
        assert saved.save(2, run_of(5)) and saved.wait()  # the damaged one is out of the way
        assert int(saved.resume(lambda: run_of(0)).step) == 5


def test_refuses_to_start_over_when_all_are_damaged(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as saved:
        saved.save(1, run_of(1))
    damage(tmp_path / "1")
    with (
        checkpoint.Checkpoints(tmp_path) as saved,
        pytest.raises(UserError, match="none of .1. in"),
    ):
        saved.resume(lambda: run_of(0))


def test_due_by_the_clock(tmp_path):
    with checkpoint.Checkpoints(tmp_path, every=1000) as saved:
        assert not saved.due()
    with checkpoint.Checkpoints(tmp_path, every=0) as saved:
        assert saved.due()


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 4, 1), (1, 8, 1)])
def test_restores_on_another_mesh(tmp_path, shape):
    agent = sac.make(SPEC, sac.Config(hidden=(128, 128)))

    def begin(shape):
        mesh = parallel.make_mesh(parallel.MeshConfig(*shape))
        state = parallel.shard(agent, mesh).init(jax.random.key(0))
        return Run(state, (), (), jnp.int32(0))

    with checkpoint.Checkpoints(tmp_path) as saved:
        saved.save(1, begin((4, 2, 1)))
    with checkpoint.Checkpoints(tmp_path) as saved:
        like = begin(shape)
        other = like._replace(state=jax.tree.map(jnp.zeros_like, like.state))
        restored = saved.resume(lambda: other)
    assert same(restored, like)
    for x, y in zip(jax.tree.leaves(restored), jax.tree.leaves(other), strict=True):
        assert x.sharding.is_equivalent_to(y.sharding, x.ndim)


def test_spec_as_json():
    box = jax.ShapeDtypeStruct((3, 2), jnp.uint8)
    for spec in (SPEC, Spec.categorical(4, 2), Spec({"a": {"b": box}}, SPEC.action)):
        assert checkpoint.decode_spec(json.loads(json.dumps(checkpoint.encode_spec(spec)))) == spec


def ring_of(reward):
    """A ring whose every reward is `reward`."""
    ring = replay.empty(SPEC, blocks=1, rows=4, envs_per_block=2)
    return ring._replace(reward=ring.reward + reward)


def write_run(directory, n=2, how="map", ring=lambda i: jnp.full(9, i)):
    agent = sac.make(SPEC, CONFIG)
    states = [jax.jit(agent.init)(jax.random.key(i)) for i in range(n)]
    runs = tuple(Run(s, (), ring(i), jnp.int32(4)) for i, s in enumerate(states))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *runs)
    step, state = jnp.int32(4), stacked.state._replace(step=states[0].step)
    run = runs if how == "map" else stacked._replace(state=state, step=step)
    settings = {
        "algorithm": "sac",
        "agent": {**CONFIG.__dict__},
        "spec": checkpoint.encode_spec(SPEC),
        "seed": 5,
        "num_seeds": n,
        "seeds": how,
    }
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(settings))
    with checkpoint.Checkpoints(directory / "checkpoints") as saved:
        saved.save(4, run)
    return states


@pytest.mark.parametrize("how", ["map", "vmap"])
def test_load_gives_agent_and_state(tmp_path, how):
    states = write_run(tmp_path / "run", how=how)
    for seed, expected in ((None, states[0]), (6, states[1])):
        agent, state = checkpoint.load(tmp_path / "run", seed)
        assert same(state, expected)
        assert agent.act(state, jnp.zeros((4, 3))).shape == (4, 2)


@pytest.mark.parametrize("how", ["map", "vmap"])
def test_load_replay_gives_the_ring_of_a_seed(tmp_path, how):
    write_run(tmp_path / "run", how=how, ring=ring_of)
    for seed, reward in ((None, 0), (6, 1)):
        ring, count = checkpoint.load_replay(tmp_path / "run", seed)
        assert count == 4 and same(ring, jax.tree.map(np.asarray, ring_of(reward)))


def test_a_run_without_replay_has_none_to_load(tmp_path):
    write_run(tmp_path / "run", ring=lambda i: ())
    with pytest.raises(UserError, match="keeps no replay"):
        checkpoint.load_replay(tmp_path / "run")


def test_infinite_settings_are_numbers_again():
    settings = {"algorithm": "cql", "agent": provenance.plain(cql.Config())}
    assert checkpoint.config_of(json.loads(json.dumps(settings))) == cql.Config()


def test_load_errors(tmp_path):
    with pytest.raises(UserError, match="config.json does not exist"):
        checkpoint.load(tmp_path)
    write_run(tmp_path / "run")
    with pytest.raises(UserError, match="seed: found 9, expected one of 5 to 6"):
        checkpoint.load(tmp_path / "run", 9)
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        checkpoint.load(tmp_path / "run")
