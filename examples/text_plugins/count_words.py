"""Answers a text with the number of its words."""

import anyio.lowlevel

from tocsin import SrcuChain, block
from tocsin.modules import ModuleHost

VERSION = 1


@block()
async def count_words(text: str, answers: list[tuple[str, int, str]]) -> None:
    """Answer a text."""
    await anyio.lowlevel.checkpoint()  # as if it had to ask somebody
    answers.append(("count_words", VERSION, f"{len(text.split())} words"))


async def module_init(host: ModuleHost) -> None:
    """Begin to answer."""
    await host.bus.get("texts", SrcuChain[str, list[tuple[str, int, str]]]).register(count_words)


async def module_exit(host: ModuleHost) -> None:
    """Answer no more."""
    await host.bus.get("texts", SrcuChain[str, list[tuple[str, int, str]]]).unregister(count_words)
