"""Loading takes little more than the arrays twice: on the host and on the device."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxrl.data.episodes import Episode
from jaxrl.data.sources import rlds
from tests.data import synthetic

ROWS, LENGTH, OBS, ACTION = 1_000_000, 1000, 17, 6  # HalfCheetah
MEASURE = """
import json, re, sys, jax, jax.numpy as jnp, numpy as np, psutil
from jaxrl.data import sources
sources.find(sys.argv[2])  # readers imported, allocators warm
sources.load("jaxrl/pendulum-mixed-v0", 8)
before = psutil.Process().memory_info().rss
dataset = jax.block_until_ready(sources.load(sys.argv[1], 8))
status = open('/proc/self/status').read()  # `ru_maxrss` would count the process that forked
peak = int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) * 1024
arrays = sum(x.nbytes for x in jax.tree.leaves(dataset))
print(json.dumps({"arrays": arrays, "above": peak - before, "size": dataset.size}))
"""


def episodes(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        obs = rng.standard_normal((LENGTH + 1, OBS), np.float32)
        action = rng.uniform(-1, 1, (LENGTH, ACTION)).astype(np.float32)
        yield Episode(obs, action, obs[1:, 0], np.ones(LENGTH, np.float32))


def write(kind, directory, count):
    directory.mkdir(parents=True)
    if kind == "local":
        return f"local/{rlds.write(directory / 'x', episodes(count), {})}"
    data = list(episodes(count))
    if kind == "d4rl":
        return f"d4rl/{synthetic.write_hdf5(directory / 'x.hdf5', synthetic.flat(data))}"
    if kind == "ogbench":
        return f"ogbench/{synthetic.write_npz(directory / 'x.npz', synthetic.rows(data))}"
    return f"minari/{synthetic.write_minari(directory / 'x', data)}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["d4rl", "ogbench", "minari", "local"])
def test_a_million_rows_take_less_than_2_3_times_their_arrays(kind, tmp_path):
    name = write(kind, tmp_path / "large", ROWS // LENGTH)
    small = write(kind, tmp_path / "small", 8)
    command = [sys.executable, "-c", MEASURE, name, small]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found["size"] == ROWS
    assert found["arrays"] > 4 * ROWS * (OBS + ACTION)
    ratio = found["above"] / found["arrays"]
    print(f"{kind}: {ratio:.2f} times {found['arrays']:,} bytes")
    assert 1 < ratio < 2.3
