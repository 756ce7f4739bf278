import pytest

from benchmarks import checkpointing


@pytest.mark.slow
def test_a_save_is_measured_against_calm_chunks():
    config = checkpointing.Config(capacity=1024, saves=2, seconds=0.05, chunk=2)
    found = checkpointing.measure(config)
    assert len(found["seconds_lost"]) == 2
    assert found["bytes_on_disk"] > 1024 * 43 * 4  # the replay and more
    worst = max(found["seconds_lost"])
    assert found["share_of_interval"] <= worst / 120 and found["interval"] == 120


def test_time_lost_is_that_of_the_call_and_of_slower_chunks(monkeypatch):
    times = iter([[1.0, 1.0, 1.0], [1.5, 1.0, 1.25]])

    class Player:
        def play(self, seconds):
            return next(times)

    assert checkpointing.lost(Player(), lambda number: None, 0, 1.0) == pytest.approx(0.75, abs=0.1)
