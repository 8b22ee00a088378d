"""Torture: callers, writers, filters and cancellations all at once, with the contract watched.

In the spirit of the kernel's locktorture and rcutorture. `ledger` knows what the contract says and
nothing of how work is spread; `tasks` and `threads` spread it, over the tasks of an event loop and
over threads; `torture` repeats that, looks at what is left behind, and counts; ``__main__`` is the
command line. Run it with ``make torture``.
"""
