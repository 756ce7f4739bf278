"""Counts of compiled programs against closed forms."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks import flops, hlo, work
from jaxrl import parallel

# As libtpu prints a loop, a batched product, and an asynchronous exchange in three fusions.
TEXT = """
HloModule program, num_partitions=8

%condition (p: (s32[])) -> pred[] {
  %p = (s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %limit = s32[] constant(7)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

%start (a: f32[4,16]) -> f32[32,16] {
  %a = f32[4,16]{1,0} parameter(0)
  ROOT %gather.1 = f32[32,16]{1,0} all-gather(%a), channel_id=3, replica_groups=[1,8]<=[8]
}

%done (b: f32[4,16]) -> f32[32,16] {
  %b = f32[4,16]{1,0} parameter(0)
  ROOT %gather.2 = f32[32,16]{1,0} all-gather(%b), channel_id=3, replica_groups=[1,8]<=[8]
}

%body (q: (s32[], f32[4,16])) -> (s32[], f32[4,16]) {
  %q = (s32[], f32[4,16]{1,0}) parameter(0)
  %x = f32[4,16]{1,0} get-tuple-element(%q), index=1
  %y = f32[16,8]{1,0} constant({...})
  %fusion.1 = f32[32,16]{1,0:T(8,128)S(1)} fusion(%x), kind=kCustom, calls=%start
  %fusion.2 = f32[32,16]{1,0:T(8,128)S(1)} fusion(%x), kind=kCustom, calls=%done
  %c = f32[32,8]{1,0:T(8,128)S(1)} convolution(%fusion.2, %y), dim_labels=bf_io->bf, operand_precision={highest,highest}
  ROOT %t = (s32[], f32[4,16]{1,0}) tuple(%x, %x)
}

ENTRY %main (z: f32[3,5,7]) -> f32[3,5,9] {
  %z = f32[3,5,7]{2,1,0} parameter(0)
  %w = f32[3,7,9]{2,1,0} parameter(1)
  %start = (s32[], f32[4,16]{1,0}) tuple(%z, %w)
  %loop = (s32[], f32[4,16]{1,0}) while(%start), condition=%condition, body=%body
  %sent = token[] send(%z), channel_id=9, is_host_transfer=true
  ROOT %batched = f32[3,5,9]{2,1,0} convolution(%z, %w), window={size=3 stride=2 lhs_dilate=3}, dim_labels=0bf_0io->0bf
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def printed():
    return work.of_module(hlo.parse(TEXT))


def compiled(function, *args):
    return work.of_module(hlo.parse(jax.jit(function).lower(*args).compile().as_text()))


@pytest.fixture
def row_wise():
    """Shardings of rows over eight devices, and of whole arrays."""
    mesh = parallel.make_mesh()
    return NamedSharding(mesh, P("data")), NamedSharding(mesh, P())


def test_loops_and_batched_products(printed):
    loop, batched = 7 * 2 * 32 * 16 * 8, 2 * 3 * 5 * 7 * 9
    assert printed[work.FLOPS] == loop + batched
    assert printed[work.PRODUCTS] == 6 * loop + batched  # the latter at the default precision
    assert printed[work.UNKNOWN] == 0


def test_parts_of_an_asynchronous_exchange_count_once(printed):
    exchanges = {key: n for key, n in printed.items() if isinstance(key, work.Collective)}
    assert exchanges == {work.Collective("all-gather", tuple(range(8)), 32 * 16 * 4, "3"): 7}


def test_an_unrolled_loop_runs_less_often():
    """The compiler does two iterations in one and adds two to the counter."""
    counted = "%j = s32[] get-tuple-element(%q), index=0\n  %two = s32[] constant(2)\n  "
    counted += "%next = s32[] add(%j, %two)\n  ROOT %t = (s32[], f32[4,16]{1,0}) tuple(%next, %x)"
    text = TEXT.replace("ROOT %t = (s32[], f32[4,16]{1,0}) tuple(%x, %x)", counted)
    assert text != TEXT
    found = work.of_module(hlo.parse(text))
    assert found[work.FLOPS] == 4 * 2 * 32 * 16 * 8 + 2 * 3 * 5 * 7 * 9  # of 7, in steps of 2


def test_transfers_to_the_host_are_seen():
    assert hlo.parse(TEXT).host_transfers == 1


def test_memory_on_the_chip_is_no_traffic(printed):
    in_loop = 2 * 4 * 16 * 4 + 16 * 8 * 4  # both fusions read x, the product reads y
    assert printed[work.HBM] == 7 * in_loop + 4 * (2 * 3 * 5 * 7 + 3 * 7 * 9 + 3 * 5 * 9)


def test_a_loop_of_unknown_length_is_told():
    text = TEXT.replace("direction=LT", "direction=NE")
    found = work.of_module(hlo.parse(text))
    assert found[work.UNKNOWN] == 1 and found[work.FLOPS] == 2 * 32 * 16 * 8 + 2 * 3 * 5 * 7 * 9


def test_nested_scans_over_devices(row_wise):
    rows, whole = row_wise

    def inner(x, _):
        return jnp.tanh(x @ weight), None

    def outer(x, _):
        return jax.lax.scan(inner, x, None, length=7)[0], None

    def program(x):
        return jax.lax.scan(outer, x, None, length=5)[0]

    weight = jnp.ones((64, 64))
    x = jax.ShapeDtypeStruct((128, 64), jnp.float32, sharding=rows)
    expected = 35 * 2 * 128 * 64 * 64
    assert compiled(program, x)[work.FLOPS] == expected / 8
    assert flops.count(program, jnp.ones((128, 64))) == expected


def test_gradients_of_a_sharded_batch_are_reduced_once(row_wise):
    rows, whole = row_wise

    def program(weight, x):
        def step(weight, _):
            return weight - jax.grad(lambda w: jnp.tanh(x @ w).mean())(weight), None

        return jax.lax.scan(step, weight, None, length=11)[0]

    weight = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=whole)
    x = jax.ShapeDtypeStruct((128, 64), jnp.float32, sharding=rows)
    found = compiled(program, weight, x)
    sizes = {key: n * key.bytes for key, n in found.items() if isinstance(key, work.Collective)}
    assert {(key.kind, len(key.group)) for key in sizes} == {("all-reduce", 8)}
    assert sum(sizes.values()) == 11 * 64 * 32 * 4
    assert found[work.FLOPS] == 11 * 2 * (2 * 128 * 64 * 32) / 8


def test_of_two_branches_the_dearer_counts():
    x = jnp.ones((8, 8))

    def program(p, x):
        return jax.lax.cond(p, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert compiled(program, True, x)[work.FLOPS] == 2 * 2 * 8**3


@pytest.mark.parametrize(("stride", "padding"), [(1, "SAME"), (2, "SAME"), (1, "VALID")])
def test_convolutions_agree_with_the_jaxpr(stride, padding):
    image, kernel = jnp.ones((2, 3, 16)), jnp.ones((4, 3, 5))

    def program(image, kernel):
        return jax.lax.conv(image, kernel, (stride,), padding)

    assert compiled(program, image, kernel)[work.FLOPS] == flops.count(program, image, kernel)


def test_padding_is_no_work():
    # A window of 5 over 16 inputs and 2 zeros on either side misses 2 + 1 + 1 + 2 taps.
    assert flops.taps(16, 16, 5, 1, 2, 1, 1) == 16 * 5 - 6
    # A batch of 3 products, written as one convolution: the window meets each pair once.
    assert flops.taps(3, 3, 3, 2, 0, 3, 1) == 3
