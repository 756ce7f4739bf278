import dataclasses
import signal

import pytest

from jaxrl import processes
from jaxrl.errors import UserError
from jaxrl.processes import ProcessConfig
from tests import scripts


def test_flags_are_found_before_others_are_read():
    argv = ["--steps", "3", "--processes.count", "4", "--processes.index=2"]
    assert processes.flags(argv) == ProcessConfig(count=4, index=2)
    assert processes.flags(["--steps", "3"]) == ProcessConfig()
    assert processes.flags([]) == ProcessConfig()


@pytest.mark.parametrize(
    "argv, expected",
    [([], None), (["--a"], ""), (["--a", "1"], "1"), (["--b", "--a=2"], "2"), (["1", "--b"], None)],
)
def test_a_flag_is_given_or_not(argv, expected):
    assert processes.given("a", argv) == expected


def test_a_flag_that_is_no_number_is_refused():
    with pytest.raises(UserError, match="processes: .*'two'"):
        processes.flags(["--processes.count", "two"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"count": 0}, "processes.count: found 0"),
        ({"count": -2}, "processes.count: found -2"),
        ({"index": 2}, "processes.index: found 2, expected 0 to 1"),
        ({"coordinator": "nowhere"}, "processes.coordinator: found 'nowhere', expected HOST:PORT"),
        ({"coordinator": ""}, "expected HOST:PORT"),
        ({"heartbeat": 0}, "at least 1 second"),
    ],
)
def test_impossible_settings_are_refused_before_connecting(change, message):
    config = ProcessConfig(count=2, index=1, coordinator="localhost:1")
    with pytest.raises(UserError, match=message):
        processes.connect(dataclasses.replace(config, **change))


def test_a_coordinator_that_does_not_answer_is_named(capsys):
    config = ProcessConfig(count=2, index=1, coordinator="localhost:1", timeout=1)
    with pytest.raises(UserError, match="nobody answered at localhost:1 within 1 s"):
        processes.connect(config)
    assert "process 1 of 2 waits at most 1 s for process 0" in capsys.readouterr().err


def test_no_cluster_is_said():
    """In a process of its own, since a backend must not be there before."""
    flags = ("--processes.count", -1, "--processes.timeout", 5, "--out", "unused")
    _, err = scripts.run("sac", *flags, status=2)
    assert "processes.count: found -1, but JAX sees no cluster" in err.splitlines()[-1]


def test_one_process_needs_nobody():
    processes.connect(ProcessConfig())
    assert processes.alone()
    assert processes.first(True) and not processes.first(False)
    assert processes.every(True) and not processes.every(False)


def test_termination_of_one_process_is_noticed_and_the_handler_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with processes.Termination() as terminated:
        assert not terminated()
        signal.raise_signal(signal.SIGTERM)
        assert terminated() and terminated.come
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def interruptible():
    """Python's own answer to an interrupt, which a process started in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_interrupt_is_not_held_back(interruptible):
    with processes.Termination() as terminated:
        signal.raise_signal(signal.SIGINT)
        assert terminated() and terminated.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_cause_of_an_end_is_left_in_the_directory_and_forgotten_at_the_next_start(
    tmp_path, monkeypatch
):
    processes.note_failure(tmp_path, ValueError("of the only process"))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(processes, "alone", lambda: False)
    processes.note_failure(tmp_path, ValueError("no such thing"))
    assert (tmp_path / "failed-0.txt").read_text() == "ValueError: no such thing\n"
    processes.note_failure(tmp_path, None)
    assert not list(tmp_path.iterdir())
    processes.note_failure(tmp_path / "missing", ValueError("is not raised again"))
