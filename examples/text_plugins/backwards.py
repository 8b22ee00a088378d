"""Answers a text with the same backwards."""

from tocsin import SrcuChain, block
from tocsin.modules import ModuleHost

VERSION = 1


@block()
def backwards(text: str, answers: list[tuple[str, int, str]]) -> None:
    """Answer a text."""
    answers.append(("backwards", VERSION, text[::-1]))


async def module_init(host: ModuleHost) -> None:
    """Begin to answer."""
    await host.bus.get("texts", SrcuChain[str, list[tuple[str, int, str]]]).register(backwards)


async def module_exit(host: ModuleHost) -> None:
    """Answer no more."""
    await host.bus.get("texts", SrcuChain[str, list[tuple[str, int, str]]]).unregister(backwards)
