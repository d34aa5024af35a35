"""Benchmarks use the tests' servers."""

pytest_plugins = ["tests.support.servers"]
