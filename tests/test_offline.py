import dataclasses
import json

import numpy as np
import pytest

from jaxrl import loading, offline
from jaxrl.agents import bc, cql, diffusion_policy, idql, iql
from jaxrl.data import sources, transforms
from jaxrl.data.dataset import extents, returns
from jaxrl.data.episodes import Source, from_episodes
from jaxrl.data.sources import rlds
from jaxrl.errors import UserError
from jaxrl.scaling import Scaling
from jaxrl.types import Spec
from tests.data import synthetic

SPEC = Spec.continuous(3, 2)


@dataclasses.dataclass(frozen=True)
class Config(offline.Config):
    agent: bc.Config | cql.Config = bc.Config()


def annealed(agent, steps, anneal=True):
    config = dataclasses.replace(Config(steps=steps, anneal=anneal), agent=agent)
    return offline.annealed(config).agent


def test_a_schedule_is_as_long_as_the_run_unless_it_was_set():
    assert annealed(iql.Config(), 300).decay_steps == 300
    assert annealed(idql.Config(), 300).decay_steps == 300
    assert annealed(iql.Config(decay_steps=7), 300).decay_steps == 7
    assert annealed(iql.Config(), 300, anneal=False).decay_steps == 0
    chunks = diffusion_policy.Config()
    assert annealed(chunks, 3_000).decay_steps == 3_000
    assert annealed(chunks, 10).decay_steps == chunks.warmup_steps + 1  # a shorter one is none
    with pytest.raises(UserError, match="anneal: found True, but the agent's learning rate has no"):
        annealed(bc.Config(), 300)


@pytest.fixture
def source(tmp_path):
    """A dataset on disk, and where it is."""
    path = rlds.write(tmp_path / "data", synthetic.episodes(), {"env": "gymnasium/Hopper-v5"})
    return sources.find(f"local/{path}")


def loaded(source, blocks=2, **changes):
    return loading.load(Config(**changes), source, blocks)


@pytest.mark.parametrize(
    "dataset, metadata, env",
    [
        ("local/x", {"env": "brax/ant"}, "brax/ant"),
        ("local/hopper", {"env": "brax/hopper"}, "brax/hopper"),
        (
            "minari/mujoco/hopper/medium-v0",
            {"env_spec": json.dumps({"id": "X-v5"})},
            "gymnasium/X-v5",
        ),
        ("tfds/d4rl_mujoco_halfcheetah/v2-medium", {}, "gymnasium/HalfCheetah-v5"),
        ("d4rl/walker2d_medium-v2.hdf5", {}, "gymnasium/Walker2d-v5"),
        ("d4rl/antmaze-umaze-v2.hdf5", {}, ""),
    ],
)
def test_the_task_is_that_of_the_metadata_or_of_the_name(dataset, metadata, env):
    assert offline.env_of(dataset, metadata) == env


@pytest.mark.parametrize(
    "dataset, env, known",
    [
        ("local/x", "gymnasium/HalfCheetah-v5", True),
        ("local/hopper", "brax/hopper", False),  # with rewards of its own
        ("local/pen-x", "gymnasium/Pusher-v5", False),
        ("tfds/d4rl_adroit_pen/v1-human", "gymnasium/AdroitHandPen-v1", True),
        ("minari/D4RL/kitchen/mixed-v2", "", True),
        ("jaxrl/pendulum-mixed-v0", "jaxrl/Pendulum-v1", False),
    ],
)
def test_scores_are_normalized_where_references_are_known(dataset, env, known):
    config = Config(dataset=dataset, env=env)
    assert (offline.reference_name(config) is not None) == known


def test_normalized_score_of_every_seed():
    config = Config(env="gymnasium/Hopper-v5")
    expert, random = 3234.3, -20.272305  # d4rl/infos.py
    found = offline.normalized(config, {"return": np.array([expert, random])})
    np.testing.assert_allclose(found["normalized_score"], [100, 0], atol=1e-3)
    assert offline.normalized(config, {}) == {}


def test_another_task_than_the_dataset_s_is_refused():
    config = Config(env="jaxrl/Pendulum-v1")
    with pytest.raises(UserError, match=r"Pendulum-v1.*\(\(3,\), \(1,\)\)"):
        offline.task(config, SPEC)
    assert offline.task(Config(), SPEC) is None
    with pytest.raises(UserError, match="names none"):
        offline.task(Config(stop_at_return=1.0), SPEC)


def test_what_is_asked_of_a_dataset_is_done(source):
    plain = loaded(source)
    assert plain.size == sum(synthetic.LENGTHS) and plain.table is None
    best = loaded(source, blocks=1, top_fraction=0.5)
    assert returns(best).min() >= np.sort(returns(plain))[-len(extents(best).length)]
    assert loaded(source, sampling="return_weighted").table is not None
    clipped = loaded(source, clip_actions=0.25).steps.action
    assert np.abs(clipped).max() == 0.25


def test_sampling_temperature_reaches_the_weights(source):
    sharp = loaded(source, blocks=1, sampling="advantage_weighted", sampling_temperature=0.01)
    even = loaded(source, blocks=1, sampling="advantage_weighted", sampling_temperature=1e3)
    steps = [np.diff(np.asarray(d.table[0], np.float64), prepend=0) for d in (sharp, even)]
    assert steps[0].max() > 5 * steps[1].max()


def test_returns_to_go_are_of_the_rewards_that_the_agent_sees():
    data = from_episodes(synthetic.episodes(), 2)
    agent = cql.Config(gamma=0.5, calibrated=True)
    config = Config(agent=agent, reward="antmaze-iql")
    found = loading.with_returns(config, data, loading.scaling_of(config, data)).return_to_go
    assert loading.with_returns(Config(), data, Scaling()).return_to_go is None
    for block, start, length in zip(*extents(data), strict=True):
        rewards = np.asarray(data.steps.reward)[block, start : start + length] - 1
        sums = [(rewards[i:] * 0.5 ** np.arange(length - i)).sum() for i in range(length)]
        np.testing.assert_allclose(found[block, start : start + length], sums, rtol=1e-4, atol=1e-5)
        assert found[block, start + length] == 0


def test_scaling_is_what_the_settings_ask(source):
    data = loaded(source)
    assert loading.scaling_of(Config(), data) == (None, transforms.Affine())
    found = loading.scaling_of(Config(normalize_obs=True, reward="antmaze-cql"), data)
    assert found.reward == (4, -2)
    np.testing.assert_array_equal(found.obs.std, transforms.obs_statistics(data).std)


def test_data_larger_than_memory_is_refused_before_it_is_read():
    def fill(put):
        raise AssertionError("was read")

    huge = Source("huge", SPEC, np.full(10**6, 10**6), fill)
    with pytest.raises(UserError, match="bytes"):
        loading.load(Config(), huge, 1)
