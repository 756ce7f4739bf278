"""The compiler's text, in pieces written by hand."""

import pytest

from benchmarks import hlo


def instruction(line):
    return hlo._instruction(*hlo.INSTRUCTION.match(line).groups())


def collective(groups):
    return instruction(f"  %a = f32[8]{{0}} all-reduce(%b), channel_id=1, {groups}, to_apply=%add")


def test_an_instruction_is_taken_apart():
    found = instruction(
        "  ROOT %c.1 = f32[4,8]{1,0:T(8,128)S(1)} convolution(%a.2, %b), window={size=3}, "
        'dim_labels=b0f_0io->b0f, metadata={op_name="f(x)"}'
    )
    assert found.name == "c.1" and found.op == "convolution" and found.operands == ("a.2", "b")
    assert found.find(r"window=\{([^}]*)\}") == "size=3"


def test_operands_with_types_are_names_too():
    found = instruction("  %d = f32[3]{0} dot(f32[3,5]{1,0:T(8,128)} %a, f32[5]{0} %b), x={1}")
    assert found.operands == ("a", "b") and found.find(r"x=\{(\d)\}") == "1"


def test_bytes_of_a_tuple_and_of_what_is_in_memory():
    type = "(f32[256,2]{1,0:T(8,128)S(1)}, bf16[3]{0}, pred[], s4[8]{0})"
    assert hlo.nbytes(type) == 256 * 2 * 4 + 3 * 2 + 1 + 4
    assert hlo.nbytes(type, on_chip=False) == 3 * 2 + 1 + 4


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("replica_groups={{0,2},{1,3}}", (0, 2)),
        ("replica_groups={}", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("replica_groups=[4,2]<=[8]", (0, 1)),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", (0, 2, 4, 6)),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", (0, 2, 4, 6)),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_1'}", (0, 1)),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0','axis_1'}", tuple(range(8))),
        ("replica_groups=mesh['axis_0'=8] {'axis_0':(2)2}", (0, 2)),
        ("source_target_pairs={{0,1},{1,2},{7,0}}", (7, 0)),
    ],
)
def test_the_first_group_in_every_form(groups, expected):
    assert hlo.group(collective(groups), 8) == expected


def test_a_program_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="entry"):
        hlo.parse("HloModule nothing")
