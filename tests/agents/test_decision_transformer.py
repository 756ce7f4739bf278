"""What a decision transformer may see, what it is trained on, and how it is optimised."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import decision_transformer as dt
from jaxrl.errors import UserError
from jaxrl.types import Segment, Spec
from tests.agents.catalog import CHOICES, FLAT, windows

pytestmark = pytest.mark.usefixtures("strict")
K = 4
SMALL = dt.Config(
    context=K, width=16, layers=2, heads=2, state=4, max_timestep=128, dropout=None, warmup=1
)
BACKBONES = ("transformer", "mamba")
every = pytest.mark.parametrize("backbone", BACKBONES)


def data(seed=0, spec=FLAT):
    return windows(spec, jax.random.key(seed))


@functools.cache
def model(backbone):
    """Networks and parameters, with weights that are large enough to see."""
    config = dataclasses.replace(SMALL, backbone=backbone, return_scale=1.0)
    networks = dt.build(FLAT, config)
    params = jax.jit(networks.model.init)(jax.random.key(0), data())
    keys = iter(jax.random.split(jax.random.key(1), 100))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), params)
    return networks, config, params


@functools.cache
def predictor(backbone):
    networks, config, params = model(backbone)
    return jax.jit(lambda segment: dt.predict(params, networks, config, segment).mode())


def loss_of(backbone):
    """The loss of a segment; its parameters are made here, before any trace."""
    networks, config, params = model(backbone)
    return lambda segment: dt.loss(params, networks, config, segment, jax.random.key(0))[0]


@every
def test_an_action_sees_the_past_its_return_and_its_observation(backbone):
    """Bit for bit: step j of row j is changed, and action i of that row moves only if j <= i."""
    predict = predictor(backbone)
    whole = jax.tree.map(lambda x: jnp.repeat(x[-1:], 16, axis=0), data())
    before, step = predict(whole), jnp.arange(K)
    expected = {"return_to_go": np.tri(K), "obs": np.tri(K), "action": np.tri(K, k=-1)}
    for field, seen in expected.items():
        changed = whole._replace(**{field: getattr(whole, field).at[step, step].add(0.3)})
        moved = np.asarray(predict(changed) != before).any(-1)[:K]  # [row, action]
        np.testing.assert_array_equal(moved.T, seen > 0, field)


@every
def test_what_is_padding_does_not_matter(backbone):
    predict, batch, other = predictor(backbone), data(), data(1)

    def mixed(ours, theirs):
        mask = batch.mask.reshape(*batch.mask.shape, *[1] * (ours.ndim - 2))
        return jnp.where(mask, ours, 100 * theirs)

    noisy = jax.tree.map(mixed, batch, other)._replace(mask=batch.mask)
    found, expected = predict(noisy), predict(batch)
    np.testing.assert_allclose(found[batch.mask], expected[batch.mask], atol=1e-6)
    loss = loss_of(backbone)
    inputs = {name: getattr(batch, name) for name in ("obs", "action", "return_to_go")}
    grads = jax.jit(jax.grad(lambda inputs: loss(batch._replace(**inputs))))(inputs)
    for name, grad in grads.items():
        assert not grad[~batch.mask].any(), name
        assert grad[batch.mask].any(), name


@every
def test_a_padded_window_equals_a_shorter_one(backbone):
    predict, batch = predictor(backbone), data()
    out = predict(batch)
    for row, length in enumerate((1, 2, 3)):
        short = jax.tree.map(lambda x: x[row : row + 1, K - length :], batch)  # noqa: B023
        assert short.mask.all()
        np.testing.assert_allclose(predict(short)[0], out[row, K - length :], atol=1e-5)


@every
def test_more_padding_leaves_the_loss_alone(backbone):
    batch = data()
    wider = jax.tree.map(lambda x: jnp.concatenate([x, x], axis=1), batch)
    wider = wider._replace(mask=wider.mask.at[:, :K].set(False))
    loss = jax.jit(loss_of(backbone))
    one, two = loss(batch), loss(wider)
    np.testing.assert_allclose(one, two, rtol=1e-5)


@every
def test_an_empty_window_is_harmless(backbone):
    networks, config, params = model(backbone)
    batch = data()._replace(mask=jnp.zeros((16, K), bool).at[0, -1].set(True))
    grad = jax.jit(jax.grad(dt.loss, has_aux=True), static_argnums=(1, 2))
    grads, metrics = grad(params, networks, config, batch, jax.random.key(0))
    chex.assert_tree_all_finite((grads, metrics))
    nothing = batch._replace(mask=jnp.zeros((16, K), bool))
    assert metrics["loss"] > 0
    grads, metrics = grad(params, networks, config, nothing, jax.random.key(0))
    assert float(metrics["loss"]) == 0
    chex.assert_trees_all_equal(grads, jax.tree.map(jnp.zeros_like, grads))


def fixed(prediction):
    """A model that predicts this, whatever it sees."""

    class Model:
        @staticmethod
        def apply(params, segment, rngs):
            del params, segment, rngs
            return dt.Deterministic(prediction)

    return dt.Networks(Model)


def segment(mask, action, weight=None):
    spec = Spec.continuous(1, action.shape[-1])
    empty = Segment.empty(spec, *action.shape[:2])
    return empty._replace(mask=jnp.asarray(mask), action=action, weight=weight)


def test_the_loss_by_hand_is_a_mean_over_steps_not_over_windows():
    """Errors 1 | 2, 3: (1 + 4 + 9) / 3, not the mean of 1 and 6.5."""
    action = jnp.array([[9.0, 1], [2, 3]])[..., None]
    batch = segment([[False, True], [True, True]], action)
    networks = fixed(jnp.zeros((2, 2, 1)))
    loss, metrics = dt.loss(None, networks, SMALL, batch, jax.random.key(0))
    assert float(loss) == pytest.approx(14 / 3)
    assert float(metrics["action_error"]) == pytest.approx(2)
    weighted = batch._replace(weight=jnp.array([0.5, 1.5]))
    loss, _ = dt.loss(None, networks, SMALL, weighted, jax.random.key(0))
    assert float(loss) == pytest.approx((0.5 + 1.5 * 13) / 3.5)


def test_the_timestep_selects_an_embedding_and_late_ones_share_the_last():
    networks, config, params = model("transformer")
    predict = jax.jit(lambda p, s: dt.predict(p, networks, config, s).mode())
    batch = data()
    swapped = jax.tree.map(lambda x: x, params)
    table = swapped["params"]["embed_time"]["embedding"]
    order = jnp.arange(128).at[jnp.array([3, 5])].set(jnp.array([5, 3]))
    swapped["params"]["embed_time"]["embedding"] = table[order]
    here, there = (batch._replace(timestep=jnp.full((16, K), t, jnp.int32)) for t in (3, 5))
    np.testing.assert_array_equal(predict(params, here), predict(swapped, there))
    assert (predict(params, here) != predict(params, there)).any()
    late, last = (batch._replace(timestep=jnp.full((16, K), t, jnp.int32)) for t in (999, 127))
    np.testing.assert_array_equal(predict(params, late), predict(params, last))


def test_the_tokens_of_a_step_share_the_embedding_of_its_time():
    """A shift of the whole table is one of every token's bias."""
    networks, config, params = model("transformer")
    shift = jnp.sin(jnp.arange(16.0))

    def shifted(name, parameter):
        layer = params["params"][name]
        moved = layer[parameter] + jnp.broadcast_to(shift, layer[parameter].shape)
        return {name: layer | {parameter: moved}}

    def predict(changed):
        return dt.predict({"params": params["params"] | changed}, networks, config, data()).mode()

    tokens = [shifted(f"embed_{name}", "bias") for name in ("return", "obs", "action")]
    found = predict(shifted("embed_time", "embedding"))
    np.testing.assert_allclose(found, predict(tokens[0] | tokens[1] | tokens[2]), atol=1e-5)
    assert float(jnp.abs(found - predict(tokens[1])).max()) > 1e-2


def test_returns_are_divided_by_their_scale():
    networks, config, params = model("transformer")
    scaled = dataclasses.replace(config, return_scale=10.0)
    batch = data()
    ten = batch._replace(return_to_go=10 * batch.return_to_go)
    found = jax.jit(lambda s: dt.predict(params, networks, scaled, s).mode())(ten)
    np.testing.assert_allclose(found, predictor("transformer")(batch), atol=1e-6)


def test_the_first_update_clips_the_gradient_and_warms_up():
    config = dt.Config(warmup=100, learning_rate=1e-2, weight_decay=0.0)
    optimizer, params = dt.optimizer(config), {"w": jnp.array([3.0, 4.0])}
    grads = {"w": jnp.array([30.0, 40.0])}
    updates, opt = optimizer.update(grads, optimizer.init(params), params)
    # Adam divides by the gradient's size, so the first step is the rate: lr / warmup, not 0.
    np.testing.assert_allclose(updates["w"], -1e-4 * np.ones(2), rtol=1e-4)
    mu = opt[1][0].mu["w"]
    np.testing.assert_allclose(mu, 0.1 * 0.25 * np.array([0.6, 0.8]), rtol=1e-5)
    for _ in range(150):
        updates, opt = optimizer.update(grads, opt, params)
    np.testing.assert_allclose(updates["w"], -1e-2 * np.ones(2), rtol=1e-3)


def test_weight_decay_shrinks_norms_and_biases_but_no_recurrence():
    config = dt.Config(warmup=0, learning_rate=1e-2, weight_decay=0.5)
    optimizer, params = dt.optimizer(config), {"a_log": jnp.ones(2), "bias": jnp.ones(2)}
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    np.testing.assert_allclose(updates["bias"], -0.005 * np.ones(2), rtol=1e-5)
    assert not updates["a_log"].any()


def test_the_order_of_windows_does_not_matter():
    agent = dt.make(FLAT, dataclasses.replace(SMALL, adam_eps=1e-3))
    update = jax.jit(agent.update)
    state, batch = jax.jit(agent.init)(jax.random.key(0)), data()
    one, _ = update(state, batch, jax.random.key(1))
    two, _ = update(state, jax.tree.map(lambda x: x[::-1], batch), jax.random.key(1))
    chex.assert_trees_all_close(one, two, rtol=1e-5, atol=1e-6)


def test_acting_reads_the_last_step_and_not_its_action():
    agent = dt.make(FLAT, SMALL)
    act = jax.jit(agent.act)
    state, batch = jax.jit(agent.init)(jax.random.key(0)), data()
    action = act(state, batch)
    other = batch._replace(action=batch.action.at[:, -1].set(0.5))
    np.testing.assert_array_equal(act(state, other), action)
    moved = batch._replace(obs=batch.obs.at[:, -1].add(1.0))
    assert (act(state, moved) != action).any(-1).all()


def test_choices_are_classified_and_sampled():
    agent = dt.make(CHOICES, SMALL)
    state, batch = jax.jit(agent.init)(jax.random.key(0)), data(spec=CHOICES)
    _, metrics = jax.jit(agent.update)(state, batch, jax.random.key(1))
    np.testing.assert_allclose(metrics["loss"], np.log(4), atol=0.4)
    assert 0 <= float(metrics["action_error"]) <= 1
    act = jax.jit(agent.act)
    drawn = {int(act(state, batch, jax.random.key(i))[0]) for i in range(20)}
    assert len(drawn) > 1
    assert drawn <= {0, 1, 2, 3}


def test_a_users_own_network_is_taken():
    networks = dt.build(FLAT, dataclasses.replace(SMALL, layers=1))
    agent = dt.make(FLAT, SMALL, networks)
    backbone = jax.eval_shape(agent.init, jax.random.key(0)).model.params["params"]["backbone"]
    assert set(backbone) == {"last_block", "LayerNorm_0"}  # one layer, where SMALL has more


@pytest.mark.parametrize(
    "change, message",
    [
        ({"context": 0}, "context: found 0"),
        ({"heads": 3}, "heads: found 3, which does not divide width 16"),
        ({"dropout": 1.0}, "dropout: found 1.0"),
        ({"return_scale": 0.0}, "return_scale: found 0"),
        ({"warmup": -1}, "warmup: found -1"),
        ({"backbone": "lstm"}, "backbone: found 'lstm', expected one of transformer, mamba"),
    ],
)
def test_settings_that_cannot_work_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dt.make(FLAT, dataclasses.replace(SMALL, **change))
