"""Whoever gives a name that is not known is told which ones are."""

from __future__ import annotations

import pytest

from tocsin.nearest import did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("order", ["orders", "mail"], "; did you mean 'orders'?"),
        ("ord", ["ord1", "ord2", "ord3", "ord4"], "; did you mean 'ord4' or 'ord3' or 'ord2'?"),
        ("ORDERS", ["orders", "mail"], "; did you mean 'orders'?"),
        ("orders", ["ORDERS", "mail"], "; did you mean 'ORDERS'?"),
        ("Mial", ["MAIL"], "; did you mean 'MAIL'?"),
        ("order", ["ORDER", "orders"], "; did you mean 'orders'?"),
        ("zebra", ["orders"], "; there is 'orders'"),
        ("zebra", ["orders", "mail", "log"], "; there are 'orders', 'mail', 'log'"),
        ("zebra", ["a", "b", "c", "d", "e"], "; there are 'a', 'b', 'c' and 2 more"),
        ("zebra", [], ""),
        ([], ["orders"], "; there is 'orders'"),
    ],
)
def test_the_nearest_names_are_told_or_else_a_few_of_those_there_are(
    name: object, known: list[str], said: str
) -> None:
    assert did_you_mean(name, known) == said
    assert did_you_mean(name, iter(known)) == said
