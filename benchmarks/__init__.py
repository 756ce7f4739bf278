"""Measurements: throughput, and scores beside published ones. `python -m benchmarks.NAME`."""
