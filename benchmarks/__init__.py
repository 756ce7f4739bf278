"""Measurements: throughput, and scores beside published ones. `python -m benchmarks.NAME`."""

from jaxrl import experiment

experiment.compile_small_loops()  # as scripts do; here before `cases` asks which devices there are
