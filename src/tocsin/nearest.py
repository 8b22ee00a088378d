"""What to say to somebody who gave a name that is not known.

Owns the end of such messages. Stands apart for difflib, which is heavy and has to be there before
an operator's directory is searched for modules.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from .wording import as_str

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["did_you_mean"]

_A_FEW = 3


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Give the end of a message: the names nearest to ``name``, or else the first few there are.

    Those that differ in capitals are near, unless others are nearer.
    """
    names, wanted = tuple(known), as_str(name) or ""
    folded = {one.casefold(): one for one in names}
    near = get_close_matches(wanted, names) or [
        folded[one] for one in get_close_matches(wanted.casefold(), folded)
    ]
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    if not names:
        return ""
    more = f" and {len(names) - _A_FEW} more" if len(names) > _A_FEW else ""
    is_or_are = "is" if len(names) == 1 else "are"
    return f"; there {is_or_are} {', '.join(map(repr, names[:_A_FEW]))}{more}"
