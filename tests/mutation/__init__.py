"""Mutation testing of the walk, the locks and the filter: ``make mutants``.

`mutants` makes the changes to the source, `trials` runs the tests on one of them, and the command
in ``__main__`` does so with all of them, two at a time, and says which survived.

Cosmic-ray makes the changes. Its own runner was left out: it writes each one into the working tree
and starts a new interpreter for it, which takes longer than most of the tests that kill. Mutmut was
left out because it calls every function through a trampoline, and this package looks for the code
of its walks in the frames of the caller.
"""
