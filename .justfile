# The gate's parts; `.ci/run` runs the same ones in the same order.

python := ".venv/bin/python"

# Everything CI asks for
ci: format lint types imports spelling test bench-smoke

format:
    .venv/bin/ruff format --check .

lint:
    .venv/bin/ruff check .

types:
    .venv/bin/mypy

imports:
    .venv/bin/lint-imports

spelling:
    .venv/bin/codespell

test:
    ./cmd/test

bench-smoke:
    {{python}} -m pytest benchmarks --benchmark-disable -q
