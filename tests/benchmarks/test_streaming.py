from benchmarks import cases, streaming


def test_both_ways_are_played_on_the_same_dataset(monkeypatch):
    small = cases.Case(cases.bc, cases.bc.Config(hidden=(8,)))
    monkeypatch.setitem(streaming.CASES, "bc", small)
    config = streaming.Config(("bc",), transitions=16_000, stream=8_000, seconds=0.01)
    found = streaming.measure(config)
    assert set(found["windows"]) == {"bc, memory", "bc, stream"}
    rates = found["medians"]
    assert found["share"] == {"bc": rates["bc, stream"] / rates["bc, memory"]}
