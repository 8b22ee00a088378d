"""Answers a text with the same in capitals."""

from tocsin import SrcuChain, block
from tocsin.modules import ModuleHost

VERSION = 1


@block()
def upper(text: str, answers: list[tuple[str, int, str]]) -> None:
    """Answer a text."""
    answers.append(("upper", VERSION, text.upper()))


async def module_init(host: ModuleHost) -> None:
    """Begin to answer."""
    await host.bus.get("texts", SrcuChain[str, list[tuple[str, int, str]]]).register(upper)


async def module_exit(host: ModuleHost) -> None:
    """Answer no more."""
    await host.bus.get("texts", SrcuChain[str, list[tuple[str, int, str]]]).unregister(upper)
