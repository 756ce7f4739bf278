import signal
import subprocess
import sys
import time

import pytest

from jaxrl import launch

PYTHON = sys.executable
INDEX = "import sys; i = int(sys.argv[sys.argv.index('--processes.index') + 1]); "


def run(*flags, code, **options):
    command = (PYTHON, "-m", "jaxrl.launch", *flags, "--", PYTHON, "-c", code)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_every_process_gets_what_it_needs_to_find_the_others():
    done = run("--processes", "2", code="import sys; print(*sys.argv[1:])")
    assert done.returncode == 0 and done.stderr == ""
    lines = sorted(done.stdout.splitlines())
    address = lines[0].split()[-1]
    assert lines == [
        f"[{i}] --processes.count 2 --processes.index {i} --processes.coordinator {address}"
        for i in range(2)
    ]
    assert address.startswith("localhost:")


def test_one_process_gets_the_command_alone():
    assert run(code="import sys; print(len(sys.argv))").stdout == "[0] 1\n"


def test_devices_replace_what_was_asked_for_before():
    done = run("--devices", "3", code="import os; print(os.environ['XLA_FLAGS'])")
    assert done.stdout.split()[-1] == "--xla_force_host_platform_device_count=3"


def test_the_first_to_fail_ends_the_rest_and_is_named_last():
    code = INDEX + "import time; i == 1 and sys.exit('error: it broke'); time.sleep(60)"
    start = time.monotonic()
    done = run("--processes", "3", code=code)
    assert time.monotonic() - start < 30
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "process 1 ended with 1: error: it broke"


BOX = """
╭─ Unrecognized options ───────────────╮
│ Unrecognized options: --gama, 3      │
│ ──────────────────────────────────── │
│ For full helptext, run sac.py --help │
╰──────────────────────────────────────╯
"""


@pytest.mark.parametrize(
    "text, cause",
    [
        ("start\nerror: it broke\n\n", "error: it broke"),
        ("error: it broke\n-----", "error: it broke"),
        (f"start\n{BOX}\n", "Unrecognized options: --gama, 3"),
        ("╰───╯", ""),
        ("", ""),
    ],
)
def test_the_cause_is_the_last_line_with_words_or_the_first_of_a_box(text, cause):
    assert launch.said(text.splitlines()) == cause


def test_a_program_that_does_not_exist_is_named(capsys):
    assert launch.main(["--processes", "2", "--restarts", "1", "--", "no-such-program"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: command: cannot start 'no-such-program' (No such file")
    assert error.count("\n") == 1


def test_a_signal_that_ends_a_process_is_named():
    code = INDEX + "import os, time; i == 0 and os.kill(os.getpid(), 9); time.sleep(60)"
    done = run("--processes", "2", code=code)
    assert done.returncode == 128 + signal.SIGKILL
    assert done.stderr.splitlines()[-1] == "process 0 was ended by SIGKILL"


def test_a_failure_is_started_again_and_a_wrong_flag_is_not(tmp_path):
    code = f"import pathlib, sys; p = pathlib.Path({str(tmp_path / 'seen')!r}); "
    code += "n = len(p.read_text()) if p.exists() else 0; p.write_text('x' * (n + 1)); "
    again = run("--restarts", "3", code=code + "sys.exit(0 if n == 1 else 7)")
    assert again.returncode == 0 and "restart 1 of 3: process 0 ended with 7" in again.stdout
    (tmp_path / "seen").unlink()
    assert run("--restarts", "3", code=code + "sys.exit(2)").returncode == 2
    assert (tmp_path / "seen").read_text() == "x"


def test_sigterm_goes_to_all():
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(143)); "
    code += "print('ready', flush=True); time.sleep(60)"
    command = (PYTHON, "-m", "jaxrl.launch", "--processes", "2", "--", PYTHON, "-c", code)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(2):
        assert "ready" in process.stdout.readline()
    process.terminate()
    assert process.wait(timeout=30) == 143


@pytest.mark.parametrize("flags", [["--processes", "0"], ["--restarts", "-1"], []])
def test_wrong_flags_are_refused(flags, capsys):
    with pytest.raises(SystemExit) as exit:
        launch.parse([*flags, "--", "true"] if flags else [])
    assert exit.value.code == 2
