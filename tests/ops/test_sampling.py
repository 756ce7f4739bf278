import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import diffusion, edm, flow, sampling

pytestmark = pytest.mark.usefixtures("strict")
PROCESSES = {
    "ddpm": diffusion.process(diffusion.cosine(8)),
    "ddim": diffusion.process(diffusion.cosine(8), sampler="ddim", sample_steps=4),
    "edm": edm.process(),
    "heun": edm.process(sampler="heun"),
    "flow": flow.process(4),
}
every = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def noise(n=6):
    return jax.random.normal(jax.random.key(0), (n, 2, 3))


def network(x, time):
    return jnp.tanh(x) * sampling.column(jnp.cos(time), x)


@every
def test_error_is_zero_for_the_target_and_one_row_each(process):
    data, times = 0.1 * noise(), process.times(jax.random.key(1), 6)
    target = process.corrupt(data, noise(), times).target
    found = sampling.error(process, lambda x, t: target + 2, data, noise(), times)
    np.testing.assert_allclose(found, np.full(6, 4.0), rtol=1e-5)
    assert (sampling.error(process, lambda x, t: target, data, noise(), times) == 0).all()


@every
def test_the_estimate_inverts_the_target(process):
    data, times = 0.1 * noise(), process.times(jax.random.key(1), 6)
    noisy = process.corrupt(data, noise(), times)
    seen = []

    def spy(x, time):
        seen.append((x, time))
        return noisy.target

    inner = noisy.x if process not in (PROCESSES["edm"], PROCESSES["heun"]) else None
    x = data + sampling.column(times, data) * noise() if inner is None else inner
    np.testing.assert_allclose(process.clean(spy, x, times), data, atol=2e-3)
    np.testing.assert_allclose(seen[0][0], noisy.x, rtol=1e-5)
    np.testing.assert_allclose(seen[0][1], noisy.time, rtol=1e-5)


@every
def test_a_guide_that_knows_the_answer_is_obeyed(process):
    answer = jnp.full((6, 2, 3), 0.25)
    found = sampling.sample(process, network, noise(), jax.random.key(1), lambda c, x, t: answer)
    np.testing.assert_allclose(found, answer, atol=1e-5)


@every
def test_a_guide_that_changes_nothing_changes_nothing(process):
    plain = sampling.sample(process, network, noise(), jax.random.key(1))
    guided = sampling.sample(process, network, noise(), jax.random.key(1), lambda c, x, t: c)
    np.testing.assert_array_equal(plain, guided)
    assert plain.dtype == noise().dtype and bool(jnp.isfinite(plain).all())


@every
def test_rows_do_not_see_each_other(process):
    if process is PROCESSES["ddpm"]:
        process = process._replace(step=lambda *a: diffusion.ddim_step(0.0, *a))
    order = jnp.array([3, 1, 0, 5, 4, 2])
    plain = sampling.sample(process, network, noise(), jax.random.key(1))
    permuted = sampling.sample(process, network, noise()[order], jax.random.key(1))
    np.testing.assert_allclose(permuted, plain[order], rtol=1e-6)


def test_guidance_between_the_two():
    conditional, unconditional = jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])
    of = {s: sampling.toward(conditional, unconditional, s) for s in (0.0, 1.0, 1.5)}
    np.testing.assert_array_equal(of[0.0], unconditional)
    np.testing.assert_array_equal(of[1.0], conditional)
    np.testing.assert_array_equal(of[1.5], [1.5, 1.0])


def test_conditions_are_dropped_whole():
    goal = jnp.ones((4000, 5))
    found = np.asarray(sampling.dropped(goal, 0.1, jax.random.key(0)))
    assert (found == found[:, :1]).all()
    assert found[:, 0].mean() == pytest.approx(0.9, abs=0.02)
    assert (np.asarray(sampling.dropped(goal, 0.0, jax.random.key(0))) == 1).all()
