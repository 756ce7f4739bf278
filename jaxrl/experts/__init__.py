"""Scripted experts, whose demonstrations datasets are made of."""
