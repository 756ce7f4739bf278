"""Tests mirror the package; `test_protocol.py` holds every agent to the same promises."""
