"""Launch scripts, against commands on the PATH that only write down what would be run."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).resolve().parents[2] / "experiments" / "launch"
SCRIPTS = ("tpu.sh", "spot.sh", "nodes.sh", "xpk.sh")
FAKE = r"""#!/usr/bin/env bash
# Writes down its arguments; answers as the test has laid out, line by line.
line="$(basename "$0") $(printf '%q ' "$@")"
echo "${line% }" >>"$FAKES/log"
next() { head -n 1 "$FAKES/$1" && sed -i 1d "$FAKES/$1"; }
case "$*" in
    *"queued-resources describe"*)
        said=$(next states)
        [[ $said != ABSENT ]] || { echo "ERROR: NOT_FOUND: no such resource" >&2; exit 1; }
        [[ $said != OFFLINE ]] || { echo "ERROR: no route to host" >&2; exit 1; }
        echo "$said" ;;
    *"bash host.sh run "*) exit "$(next statuses)" ;;
    *rev-parse*) echo /checkout ;;
    *experiments/sac.py*) exit "$(next statuses)" ;;
esac
"""
TPU = ("--name", "run-1", "--zone", "us-central2-b")
SLICE = ("--type", "v5litepod-16", "--version", "v2-alpha-tpuv5-lite")
SAC = ("--", "python", "experiments/sac.py", "--env", "brax/ant", "--out", "gs://bucket/run")
QUICK = ("--poll", "0.01")


class Fakes:
    """Commands on the PATH, what they are to answer, and what they were asked."""

    def __init__(self, directory: Path):
        self.directory = directory
        for name in ("gcloud", "git", "ssh", "scp", "xpk", "srun", "scontrol"):
            (directory / name).write_text(FAKE)
            (directory / name).chmod(0o755)
        self.environment = dict(os.environ, FAKES=str(directory))
        self.environment["PATH"] = f"{directory}:{os.environ['PATH']}"

    def answer(self, states=(), statuses=()):
        (self.directory / "states").write_text("".join(f"{s}\n" for s in states))
        (self.directory / "statuses").write_text("".join(f"{s}\n" for s in statuses))

    def run(self, script, *flags, **environment):
        command = ["bash", str(LAUNCH / script), *map(str, flags)]
        env = self.environment | environment
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    @property
    def log(self):
        path = self.directory / "log"
        return path.read_text().splitlines() if path.exists() else []

    def verbs(self):
        """What gcloud was asked to do with queued resources and TPUs, without looks at states."""
        words = [
            re.match(r"gcloud compute tpus (?:queued-resources|tpu-vm) (\w+)", x) for x in self.log
        ]
        return [found[1] for found in words if found and found[1] != "describe"]


@pytest.fixture
def fakes(tmp_path):
    return Fakes(tmp_path)


def test_scripts_pass_shellcheck():
    shellcheck = Path(sys.executable).parent / "shellcheck"
    files = [*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"]
    assert len(files) == 7
    done = subprocess.run([shellcheck, "-x", *files], cwd=LAUNCH.parents[1], capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_head_of_the_script(fakes, script):
    done = fakes.run(script, "--help")
    assert done.returncode == 0 and script in done.stdout and "set -e" not in done.stdout
    assert not fakes.log


@pytest.mark.parametrize(
    ("script", "flags", "said"),
    [
        ("tpu.sh", ("start",), "found 'start', expected create, install, run or delete"),
        ("tpu.sh", ("create", "--name", "My TPU"), "--name: found 'My TPU'"),
        ("tpu.sh", ("create", "--name"), "--name: expected a value"),
        ("tpu.sh", ("create", "--nam", "x"), "--nam: no such flag"),
        ("tpu.sh", ("create", "x"), "found 'x', expected a flag"),
        ("tpu.sh", ("delete", "--name", "x", "--zone", "central"), "--zone: found 'central'"),
        ("tpu.sh", ("create", *TPU, "--type", "v5e"), "--type: found 'v5e', expected something"),
        ("tpu.sh", ("run", *TPU), "expected '-- python experiments/SCRIPT.py ...'"),
        ("tpu.sh", ("run", *TPU, "--", "rm"), "command: found 'rm', expected python"),
        ("spot.sh", (*TPU, *SLICE, "--", "python", "x.py", "--out", "runs/x"), "--out gs://"),
        ("spot.sh", (*TPU, *SLICE, "--restarts", "many", *SAC), "--restarts: found 'many'"),
        ("nodes.sh", ("run", "--hosts", "a b", *SAC), "--hosts: found 'a b'"),
        ("nodes.sh", ("run", "--hosts", "a", "--gpus", 0, *SAC), "--gpus: found '0'"),
        ("xpk.sh", (*TPU, *SAC), "--cluster: missing"),
    ],
)
def test_bad_flags_take_one_line_and_run_nothing(fakes, script, flags, said):
    done = fakes.run(script, *flags)
    assert done.returncode == 2 and not fakes.log
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_slice_is_created_installed_on_and_run_on_all_hosts(fakes):
    fakes.answer(statuses=[0])
    for action, more in (("create", (*SLICE, "--spot")), ("install", ()), ("run", SAC)):
        done = fakes.run("tpu.sh", action, *TPU, "--project", "mine", *more)
        assert done.returncode == 0, done.stderr
    create, copy, install, run = (line for line in fakes.log if line.startswith("gcloud"))
    where = "--zone=us-central2-b --project=mine"
    assert create == (
        "gcloud compute tpus tpu-vm create run-1 --accelerator-type=v5litepod-16 "
        f"--version=v2-alpha-tpuv5-lite --spot {where}"
    )
    assert "tpu-vm scp" in copy and "host.sh run-1: --worker=all" in copy
    assert "--worker=all" in install and r"bash\ host.sh\ install\ tpu\,gcs" in install
    assert "tpu-vm ssh run-1 --worker=all" in run
    assert r"--out\ gs://bucket/run\ --processes.count\ -1" in run


def test_a_failing_host_is_the_status(fakes):
    fakes.answer(statuses=[3])
    assert fakes.run("tpu.sh", "run", *TPU, *SAC).returncode == 3


def test_the_command_reaches_the_hosts_as_it_was_written(fakes):
    fakes.answer(statuses=[0])
    flag = "a 'b' $HOME *"
    fakes.run("tpu.sh", "run", *TPU, "--", "python", "x.py", flag)
    sent = fakes.run("xpk.sh", "--help").returncode == 0 and fakes.log[-1]
    command = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {sent}"], capture_output=True, text=True
    ).stdout.splitlines()
    (remote,) = (word for word in command if word.startswith("--command="))
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {remote.removeprefix('--command=')}"],
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert words[-3:] == [flag, "--processes.count", "-1"]


def test_dry_runs_print_and_do_nothing(fakes):
    shown = [
        fakes.run("tpu.sh", "create", *TPU, *SLICE, "--dry-run"),
        fakes.run("spot.sh", *TPU, *SLICE, "--dry-run", *SAC),
        fakes.run("nodes.sh", "run", "--hosts", "a,b", "--dry-run", *SAC),
        fakes.run("xpk.sh", *XPK, "--dry-run", *SAC),
    ]
    assert all(done.returncode == 0 for done in shown)
    starts = ("gcloud", "gcloud", "ssh", "xpk")
    assert all(done.stdout.startswith(x) for done, x in zip(shown, starts, strict=True))
    assert not [line for line in fakes.log if not line.startswith("git")]
    lines = shown[1].stdout.splitlines()
    assert "queued-resources create" in lines[0] and "delete run-1 --force" in lines[-1]


def test_a_preempted_run_is_queued_for_again_and_resumed(fakes):
    wait = ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    lost = ["SUSPENDING", "SUSPENDING", "SUSPENDED"]  # after the connection broke
    fakes.answer(["ABSENT", *wait, *lost, "OFFLINE", "ABSENT", *wait], [255, 0])
    done = fakes.run("spot.sh", *TPU, *SLICE, *QUICK, *SAC)
    assert done.returncode == 0, done.stderr
    attempt = ["create", "scp", "ssh", "ssh", "delete"]
    assert fakes.verbs() == attempt * 2
    runs = [line for line in fakes.log if r"host.sh\ run" in line]
    assert len(runs) == 2 and runs[0] == runs[1]
    assert all("--spot" in line for line in fakes.log if "resources create" in line)


def test_failures_are_counted_and_end_with_the_tpu_deleted(fakes):
    fakes.answer(["ABSENT", *["ACTIVE"] * 6], [1, 139, 1])
    done = fakes.run("spot.sh", *TPU, *SLICE, *QUICK, "--restarts", 2, *SAC)
    assert done.returncode == 1 and "restart 2 of 2" in done.stderr
    assert fakes.verbs().count("create") == 1 and fakes.verbs()[-1] == "delete"
    assert len([line for line in fakes.log if r"host.sh\ run" in line]) == 3


def test_a_user_s_error_is_not_tried_again(fakes):
    fakes.answer(["ACTIVE"], [2])
    assert fakes.run("spot.sh", *TPU, *SLICE, *QUICK, *SAC).returncode == 2
    assert fakes.verbs() == ["scp", "ssh", "ssh", "delete"]


def test_on_demand_is_not_spot(fakes):
    fakes.answer(["ABSENT", "ACTIVE"], [0])
    fakes.run("spot.sh", *TPU, *SLICE, *QUICK, "--on-demand", *SAC)
    assert "--spot" not in "".join(fakes.log)


@pytest.mark.parametrize("gpus", [0, 2])
def test_every_process_of_the_nodes_gets_its_index(fakes, gpus):
    fakes.answer(statuses=[0] * 4)
    flags = ("--gpus", gpus) if gpus else ()
    assert fakes.run("nodes.sh", "run", "--hosts", "u@a,u@b", *flags, *SAC).returncode == 0
    lines = sorted(line for line in fakes.log if line.startswith("ssh"))
    count = 4 if gpus else 2
    assert len(lines) == count
    for index, line in enumerate(lines):
        assert (
            f"host.sh\\ run\\ {index}\\ " in line and f"-tt u@{'ab'[index * 2 // count]} " in line
        )
        assert f"--processes.count\\ {count}\\ --processes.index\\ {index}\\ " in line
        assert "--processes.coordinator\\ a:8476" in line
        assert (f"CUDA_VISIBLE_DEVICES={index % 2}" in line) == bool(gpus)


def test_the_status_of_nodes_is_that_of_the_one_that_failed(fakes):
    fakes.answer(statuses=[7, 7])
    assert fakes.run("nodes.sh", "run", "--hosts", "a,b", *SAC).returncode == 7


XPK = (*TPU, "--cluster", "c", "--type", "v5litepod-16", "--image", "gcr.io/p/jaxrl")


def test_xpk_is_given_the_workload(fakes):
    fakes.answer(statuses=[0])
    assert fakes.run("xpk.sh", *XPK, *SAC).returncode == 0
    (line,) = fakes.log
    assert line.startswith("xpk workload create --workload run-1 --cluster c")
    assert "--max-restarts 10" in line and r"--processes.count\ -1" in line


@pytest.mark.parametrize("status", [0, 143, 1])
def test_slurm_requeues_what_was_saved(fakes, status):
    fakes.answer(statuses=[status])
    done = fakes.run("slurm.sbatch", "experiments/sac.py", "--out", "x", SLURM_JOB_ID="5")
    assert done.returncode == status
    assert fakes.log[0].endswith("experiments/sac.py --out x --processes.count -1")
    assert ("scontrol requeue 5" in fakes.log) == (status == 143)


def test_a_host_ends_an_earlier_start_first(tmp_path):
    (tmp_path / "jaxrl" / ".venv" / "bin").mkdir(parents=True)
    host = ["bash", str(LAUNCH / "host.sh"), "run", "0"]
    home = dict(os.environ, HOME=str(tmp_path))
    first = subprocess.Popen([*host, "sleep", "60"], env=home)
    while not (tmp_path / "run.0.pid").exists() or _cwd(first.pid) != tmp_path / "jaxrl":
        time.sleep(0.01)
    done = subprocess.run([*host, "pwd"], env=home, capture_output=True, text=True, timeout=30)
    assert first.wait(10) == -signal.SIGTERM
    assert done.stdout.strip() == str(tmp_path / "jaxrl") and "earlier start" in done.stderr
    again = subprocess.run([*host, "true"], env=home, capture_output=True, timeout=30)
    assert again.returncode == 0 and not again.stderr  # that number is nobody's of ours now


def test_a_host_installs_the_bundle_in_place_of_what_was_there(fakes, tmp_path):
    (tmp_path / "git").write_text('#!/bin/bash\nmkdir jaxrl && echo "git $*" >>"$FAKES/log"\n')
    shutil.copy(tmp_path / "xpk", tmp_path / "python3")
    (tmp_path / "jaxrl" / "old").mkdir(parents=True)
    done = fakes.run("host.sh", "install", "tpu,gcs", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "jaxrl" / "old").exists()
    assert fakes.log[0] == "git clone -q jaxrl.bundle jaxrl"
    assert fakes.log[-1] == r"python3 -m uv pip install -q -e .\[tpu\,gcs\]"


def _cwd(pid):
    return Path(os.readlink(f"/proc/{pid}/cwd"))


def test_engines_files_name_scripts_and_flags_that_exist():
    for name in ("sky_tpu.yaml", "sky_gpu.yaml"):
        task = yaml.safe_load((LAUNCH / name).read_text())
        assert task["resources"]["use_spot"] and "--processes.count" in task["run"]
        assert (LAUNCH.parents[1] / task["envs"]["COMMAND"]).exists()
        script = f"COMMAND=x OUT=y\n{task['setup']}\n{task['run']}"
        assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0
    assert shutil.which("bash") and "experiments/launch" in (LAUNCH / "Dockerfile").read_text()
