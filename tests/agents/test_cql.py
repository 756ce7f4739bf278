import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.agents import cql, sac
from jaxrl.errors import UserError
from jaxrl.ops import rows
from jaxrl.types import Spec
from tests.agents.catalog import FLAT, transitions
from tests.agents.fakes import Module, Spy

SMALL = cql.Config(hidden=(16, 16), learning_rate=1e-3, actor_learning_rate=1e-3, actions=3)
SAC = sac.Config(hidden=(16, 16), learning_rate=1e-3, temperature_loss="J2", backup_entropy=False)
pytestmark = pytest.mark.usefixtures("strict")


def data(seed=0, n=16):
    return transitions(FLAT, jax.random.key(seed), (n,))


def change(**fields):
    return dataclasses.replace(SMALL, **fields)


def built(config=SMALL, **replaced):
    """Networks with optimisers, and a state whose target is not its critic."""
    adam = optax.adam(1e-3)
    networks = cql.build(FLAT, config)._replace(optimizer=adam, actor_optimizer=adam, **replaced)
    state = cql.init(networks, FLAT, config, jax.random.key(0))
    other = cql.init(networks, FLAT, config, jax.random.key(1))
    return networks, state._replace(target=other.target)


def updated(config=SMALL, batch=None, **fields):
    """State and metrics after one update from a fixed state, some of its fields replaced."""
    networks, state = built(config)
    batch = data() if batch is None else batch
    return cql.update(networks, config, state._replace(**fields), batch, jax.random.key(3))


def differ(a, b):
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(a, b)


def shared(state):
    return state.actor, state.critic, state.temperature, state.target


def test_weight_zero_is_sac():
    ours, theirs = cql.make(FLAT, change(weight=0.0)), sac.make(FLAT, SAC)
    state, other = ours.init(jax.random.key(0)), theirs.init(jax.random.key(0))
    chex.assert_trees_all_equal(shared(state), shared(other))
    update, update_other = (
        # With fusion emitters, as users have them and default tests do not: bits depend on them.
        jax.jit(agent.update, compiler_options={"xla_cpu_use_fusion_emitters": True})
        for agent in (ours, theirs)
    )
    for i in range(3):
        state, _ = update(state, data(i), jax.random.key(i))
        other, _ = update_other(other, data(i), jax.random.key(i))
        if i == 0:
            chex.assert_trees_all_equal(shared(state), shared(other))
    chex.assert_trees_all_close(shared(state), shared(other), atol=1e-6, rtol=1e-6)


def test_some_weight_is_not_sac():
    state, other = updated(change(weight=0.0))[0], updated(change(weight=0.1))[0]
    differ(state.critic.params, other.critic.params)


def settled(weight):
    """Q of two arms, played 9 to 1 and paying 1 and 2, after descent on the critic's loss."""
    table = Module(lambda q, obs, action: q[(action[..., 0] > 0).astype(int)][None])
    networks = cql.Networks(actor=None, critic=table, temperature=None, multiplier=None)
    arm = jnp.array([-0.5] * 9 + [0.5])[:, None]
    batch = data(n=10)._replace(action=arm, reward=jnp.where(arm[:, 0] > 0, 2.0, 1.0))
    both = jnp.broadcast_to(jnp.array([[[-0.5], [0.5]]]), (10, 2, 1))
    action = jnp.concatenate([both, arm[:, None]], 1)
    candidates = cql.Candidates(rows.repeat(batch.obs, 3), action, jnp.zeros((10, 2)))
    args = networks, change(weight=weight), batch, batch.reward, candidates, jnp.ones(())
    grad = jax.grad(cql.critic_loss, has_aux=True)
    step = jax.jit(lambda q: q - 0.1 * grad(q, *args)[0])
    return jax.lax.fori_loop(0, 5000, lambda _, q: step(q), jnp.zeros(2))


@pytest.mark.parametrize(
    "weight, expected",
    [
        (0.0, [1.0, 2.0]),
        (0.5, [1.106558, 1.040975]),
        (1.0, [1.151819, 0.633626]),  # half the squared error would give 1.196, 0.235
        (5.0, [1.245951, -0.213559]),
    ],
)
def test_two_arms_settle_at_the_closed_form(weight, expected):
    q = settled(weight)
    np.testing.assert_allclose(q, expected, atol=1e-3)
    # Pushed up where the data are: the bound is on the policy's value, not on every action's.
    assert weight == 0 or q[0] > 1.0


def test_candidates_and_their_densities():
    networks, state = built()
    batch, n = data(), SMALL.actions
    found = cql.propose(networks, SMALL, state.actor.params, batch, jax.random.key(0))
    assert found.action.shape == (16, 3 * n + 1, 3)
    assert found.log_density.shape == (16, 3 * n)
    np.testing.assert_array_equal(found.action[:, -1], batch.action)
    np.testing.assert_allclose(found.log_density[:, :n], -3 * np.log(2), rtol=1e-6)
    for part, obs in [(slice(n, 2 * n), batch.next_obs), (slice(2 * n, 3 * n), batch.obs)]:
        policy = rows.repeat(networks.actor.apply(state.actor.params, obs), n)
        expected = policy.log_prob(found.action[:, part])
        np.testing.assert_allclose(found.log_density[:, part], expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(found.obs, rows.repeat(batch.obs, 3 * n + 1))
    assert len(np.unique(found.action)) == found.action.size


def test_the_penalty_moves_no_actor():
    # In Jacobi order the actor sees the old critic, so the penalty can reach it by leaks alone.
    light, heavy = (updated(change(weight=w, update_order="jacobi"))[0] for w in (0.0, 50.0))
    chex.assert_trees_all_equal(light.actor, heavy.actor)
    differ(light.critic.params, heavy.critic.params)


def test_the_actor_s_loss_moves_no_critic():
    chex.assert_trees_all_equal(updated()[0].critic, updated(change(bc_steps=1))[0].critic)


def test_jacobi_order_moves_the_actor_by_the_old_critic():
    ours, theirs = updated()[0], updated(change(update_order="jacobi"))[0]
    chex.assert_trees_all_equal((ours.critic, ours.target), (theirs.critic, theirs.target))
    differ(ours.actor.params, theirs.actor.params)
    old = built()[1]
    expected = jax.tree.map(lambda t, q: 0.995 * t + 0.005 * q, old.target, theirs.critic.params)
    chex.assert_trees_all_close(theirs.target, expected, rtol=1e-5, atol=1e-7)


def asked(config):
    """Where the penalty valued its candidates, `[B, M + 1, S]`, and the batch."""
    networks, state = built(config)
    batch, key = data(), jax.random.key(3)
    return cql.propose(networks, config, state.actor.params, batch, key).obs, batch


def test_actions_of_the_next_state_are_valued_at_this_one():
    obs, batch = asked(SMALL)
    np.testing.assert_array_equal(obs, rows.repeat(batch.obs, 10))
    here = updated(batch=data())[1]["gap"]
    there = updated(batch=data()._replace(next_obs=data(5).next_obs))[1]["gap"]
    assert float(here) != float(there)


def test_trained_critics_are_never_asked_about_the_next_state():
    spy = Spy(cql.build(FLAT, SMALL).critic)
    networks, state = built(critic=spy)
    spy.calls.clear()
    batch = data()
    with jax.disable_jit():
        cql.evaluate(networks, SMALL, state, batch, jax.random.key(3))
    online = [obs for params, obs, _ in spy.calls if params is not state.target]
    assert [len(obs) for obs in online] == [16, 160]
    for obs in online:
        assert np.isin(np.asarray(obs), np.asarray(batch.obs)).all()


def test_actions_of_the_next_state_can_be_valued_there():
    obs, batch = asked(change(next_actions_at="next_obs"))
    at_next = (obs == batch.next_obs[:, None]).all((0, 2))
    assert at_next.tolist() == [False] * 3 + [True] * 3 + [False] * 4


def test_valuing_in_parts_changes_only_rounding():
    whole, parts = updated(), updated(change(parts=4))
    chex.assert_trees_all_close(whole, parts, rtol=1e-4, atol=1e-6)


def lagrange(kind, weight=2.0, threshold=5.0):
    return change(lagrange=kind, weight=weight, threshold=threshold)


@pytest.mark.parametrize("kind, edge", [("official", 2.5), ("jaxcql", 5.0)])
def test_multiplier_grows_with_a_wide_gap_and_shrinks_with_a_narrow_one(kind, edge):
    config = lagrange(kind)
    networks, state = built(config)

    def slope(gap):
        grad = jax.grad(cql.multiplier_loss, has_aux=True)
        tree = grad(state.multiplier.params, networks, config, jnp.array(gap))[0]
        return float(jax.tree.leaves(tree)[0])

    assert slope(edge + 1) < 0 < slope(edge - 1)  # descent raises it above the edge


@pytest.mark.parametrize("kind", ["official", "jaxcql"])
def test_multiplier_s_gradient_is_the_finite_difference(kind, x64):
    config = lagrange(kind)
    networks, state = built(config)
    gap, step = jnp.array(7.0), 1e-5

    def loss(x):
        params = jax.tree.map(lambda _: x, state.multiplier.params)
        return cql.multiplier_loss(params, networks, config, gap)[0]

    at = jnp.array(0.3)
    difference = (loss(at + step) - loss(at - step)) / (2 * step)
    assert float(jax.grad(loss)(at)) == pytest.approx(float(difference), rel=1e-6)
    excess = 2 * 7 - 5 if kind == "official" else 2 * (7 - 5)
    assert float(difference) == pytest.approx(-np.exp(0.3) * excess, rel=1e-6)


def test_parametrisations_agree_up_to_the_threshold_s_scale():
    official, scaled = lagrange("official", threshold=10.0), lagrange("jaxcql", threshold=5.0)
    one, two = updated(official), updated(scaled)
    chex.assert_trees_all_close(one, two, rtol=1e-5, atol=1e-7)
    other = updated(lagrange("jaxcql", threshold=10.0))
    differ(one[1]["penalty"], other[1]["penalty"])
    differ(one[0].multiplier, other[0].multiplier)


def test_critics_see_the_multiplier_before_it_moves():
    config = lagrange("official")
    networks, state = built(config)
    new, metrics = cql.update(networks, config, state, data(), jax.random.key(3))
    excess = 2 * float(metrics["gap"]) - 5
    assert float(metrics["penalty"]) == pytest.approx(2 * 1.0 * excess, rel=1e-5)
    differ(new.multiplier.params, state.multiplier.params)


def test_multiplier_is_bounded():
    config = lagrange("official")
    networks, state = built(config)
    huge = jax.tree.map(lambda x: x + 30, state.multiplier.params)
    assert float(cql.lagrange_multiplier(networks, huge)) == 1e6
    grad = jax.grad(cql.multiplier_loss, has_aux=True)
    tree = grad(huge, networks, config, jnp.array(9.0))[0]
    assert float(jax.tree.leaves(tree)[0]) == 0.0


def test_gap_bounds():
    for bounds in ({"gap_max": -1.0}, {"gap_min": 50.0}):
        gap = updated(change(**bounds))[1]["gap"]
        assert float(gap) == next(iter(bounds.values()))


def test_warm_up_clones_the_data_and_then_stops():
    config = change(bc_steps=1, update_order="jacobi")
    other = data()._replace(action=data(5).action)
    cloned = updated(config)[0].actor.params
    differ(cloned, updated(config, other)[0].actor.params)
    done = {"step": jnp.int32(1)}
    later = updated(config, **done)[0].actor.params
    chex.assert_trees_all_equal(later, updated(config, other, **done)[0].actor.params)
    plain = updated(change(update_order="jacobi"), **done)[0].actor.params
    chex.assert_trees_all_close(later, plain, rtol=1e-6, atol=1e-7)


def test_cloning_loss_by_hand():
    networks, state = built()
    key, params = jax.random.key(4), state.actor.params
    loss, metrics = cql.cloning_loss(params, networks, data(), None, jnp.array(0.5), key)
    policy = networks.actor.apply(params, data().obs)
    likelihood = policy.log_prob(data().action).mean()
    expected = -0.5 * float(metrics["entropy"]) - float(likelihood)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def target(config, scale=1.0):
    """Targets of the batch with its rewards multiplied by `scale`."""
    networks, state = built(config)
    batch = data()._replace(reward=scale * data().reward)
    return cql.backup(networks, config, state, batch, jax.random.key(5))


@pytest.mark.parametrize("entropy", [False, True])
def test_best_of_one_action_is_sac_s_target(entropy):
    config = change(actions=1, backup_entropy=entropy)
    plain, best = (target(dataclasses.replace(config, backup=b)) for b in ("sample", "max_of_min"))
    np.testing.assert_allclose(best, plain, rtol=1e-5)


@pytest.mark.parametrize("backup", ["sample", "max_of_min", "min_of_max"])
def test_the_reward_scale_multiplies_rewards_alone(backup):
    found = target(change(backup=backup, reward_scale=3.0))
    np.testing.assert_allclose(found, target(change(backup=backup), scale=3.0), rtol=1e-5)
    assert float(jnp.abs(found - target(change(backup=backup))).min()) > 1e-3


def test_max_backups_are_ordered():
    low, high = (target(change(actions=5, backup=b)) for b in ("max_of_min", "min_of_max"))
    assert (high >= low).all()
    assert (high > low).any()
    assert (low >= target(change(actions=1, backup="max_of_min")) - 1.0).all()


def test_permuting_batch_and_candidates_changes_nothing():
    networks, state = built()
    batch = data()
    candidates = cql.propose(networks, SMALL, state.actor.params, batch, jax.random.key(0))
    order = jax.random.permutation(jax.random.key(1), 16)
    grad = jax.grad(cql.critic_loss, has_aux=True)

    def of(batch, candidates):
        args = networks, SMALL, batch, batch.reward, candidates, jnp.ones(())
        return grad(state.critic.params, *args)[0]

    mixed = jax.tree.map(lambda x: x[order], batch)
    along = jax.tree.map(lambda x: x[order], candidates)
    chex.assert_trees_all_close(of(batch, candidates), of(mixed, along), rtol=1e-5, atol=1e-6)


def test_weights_of_the_batch_reach_the_penalty():
    weight = 16.0 * (jnp.arange(16) == 3)
    one = updated(batch=data()._replace(weight=weight))[1]["gap"]
    networks, state = built()
    batch = data()
    found = cql.propose(networks, SMALL, state.actor.params, batch, jax.random.key(3))
    single = jax.tree.map(lambda x: x[3:4], found)
    row = jax.tree.map(lambda x: x[3:4], batch)
    args = networks, SMALL, row, row.reward, single, jnp.ones(())
    _, metrics = cql.critic_loss(state.critic.params, *args)
    assert float(one) == pytest.approx(float(metrics["gap"]), rel=1e-5)


def test_a_reward_column_is_refused():
    batch = data()
    with pytest.raises(AssertionError):
        updated(batch=batch._replace(reward=batch.reward[:, None]))


def test_bad_settings_are_refused_by_name():
    with pytest.raises(UserError, match="continuous"):
        cql.make(Spec.categorical(3, 2))
    bad = {"gamma": 2, "tau": -1, "weight": -1.0, "actions": 0, "softness": 0.0, "multiplier": 0.0}
    bad["temperature"] = 0.0
    for name, value in bad.items():
        with pytest.raises(UserError, match=name):
            cql.make(FLAT, change(**{name: value}))
    with pytest.raises(UserError, match="backup_entropy"):
        cql.make(FLAT, change(backup="min_of_max", backup_entropy=True))
