"""Harnesses for a coverage-guided fuzzer: any text in, nothing but documented errors out.

`harnesses` has one function for each parser and drawing; `python -m tests.fuzzing` runs them under
atheris, which comes with the extra ``fuzz``. The suite runs them without it.
"""
