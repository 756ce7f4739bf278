"""Equations: arrays in, arrays out, batched, without networks."""
