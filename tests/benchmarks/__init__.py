"""The benchmark: what Tocsin costs beside a bare loop and beside its peers.

Run it with ``make bench`` or ``python -m tests.benchmarks``; `measure` says how figures are taken.
"""
