"""How a snapshot of a bus is drawn: as a tree of text, as Mermaid, as DOT for Graphviz.

Owns the words, the shapes and the escaping. Any text may be the name of a chain or a bus, so a name
that is not plain is shown as Python would write it: no name can end a line, move a cursor or pass
for something else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .snapshots import BlockSnapshot, BusSnapshot, ChainSnapshot

__all__ = ["draw_dot", "draw_mermaid", "draw_tree"]

_PLAIN_NAME = re.compile(r"[\w.:/+<>-]+")


def _show(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else repr(name)


def _on_one_line(words: str) -> str:
    return words if words.isprintable() else repr(words)


def _show_all(names: Iterable[str]) -> str:
    return "|".join(map(_show, names)) or "none"


# The tree.


def draw_tree(bus: BusSnapshot) -> str:
    """Draw a bus for a person: a line for each chain and, in call order, for each block.

    What is as usual goes without saying: ``errors=raise``, a sync callback, no filter, no owner.
    """
    awaited = [f"{_show(name)}: a filter, but no chain" for name in bus.unmatched_filters]
    branches = [*(_chain_branch(chain) for chain in bus.chains), *([line] for line in awaited)]
    return "\n".join([f"bus {_show(bus.name)}{'' if branches else ': empty'}", *_nest(branches)])


def _nest(branches: list[list[str]]) -> Iterator[str]:
    """Put branches, each with its twigs, under the line above."""
    for left, (head, *twigs) in zip(range(len(branches) - 1, -1, -1), branches, strict=True):
        yield f"{'├─' if left else '└─'} {head}"
        yield from (f"{'│ ' if left else '  '} {twig}" for twig in twigs)


def _chain_branch(chain: ChainSnapshot) -> list[str]:
    said = {
        "errors": "" if chain.errors == "raise" else chain.errors,
        "filter": _on_one_line(chain.filter or ""),
        "only": " & ".join(chain.only),
        "unmatched": "|".join(map(_show, chain.unmatched_names)),
        "owner": _show(chain.owner) if chain.owner else "",
    }
    words = [_show(chain.flavour), *(f"{key}={value}" for key, value in said.items() if value)]
    if not chain.blocks:
        words.append("no blocks")
    width = max((len(str(block.priority)) for block in chain.blocks), default=0)
    twigs = [[_block_twig(block, width)] for block in chain.blocks]
    return [f"{_show(chain.name)}: {', '.join(words)}", *_nest(twigs)]


def _block_twig(block: BlockSnapshot, width: int) -> str:
    flags = {
        "parked": block.is_parked,
        "async": block.is_async,
        "thread": block.thread,
        "once": block.once,
    }
    words = [word for word, holds in flags.items() if holds]
    if block.timeout is not None:
        words.append(f"timeout={block.timeout} s")
    if block.before:
        words.append(f"before={_show_all(block.before)}")
    if block.after:
        words.append(f"after={_show_all(block.after)}")
    if block.events is not None:
        words.append(f"events={_show_all(block.events)}")
    if block.owner:
        words.append(f"owner={_show(block.owner)}")
    said = f": {', '.join(words)}" if words else ""
    return f"{block.priority:{width}} {_show(block.name)}{said}"


# The graphs: bus -> chain -> first block -> second block, parked ones dashed.


class _Node(NamedTuple):
    id: str
    label: str
    shape: str
    before: str | None
    """The id of the node from which an edge leads here."""
    is_parked: bool = False


def _nodes(bus: BusSnapshot) -> Iterator[_Node]:
    yield _Node("bus", f"bus {_show(bus.name)}", "bus", None)
    for number, chain in enumerate(bus.chains):
        head = before = f"chain{number}"
        yield _Node(head, f"{_show(chain.name)} ({_show(chain.flavour)})", "chain", "bus")
        for place, block in enumerate(chain.blocks):
            own = f"{head}_{place}"
            label = f"{_show(block.name)} ({block.priority})"
            yield _Node(own, label, "block", head if block.is_parked else before, block.is_parked)
            before = own


_MERMAID_SHAPES = {"bus": '[["{}"]]', "chain": '(["{}"])', "block": '["{}"]'}


def draw_mermaid(bus: BusSnapshot) -> str:
    """Draw a bus as a flow chart in Mermaid."""
    lines = ["flowchart LR", "    classDef parked stroke-dasharray: 5 5"]
    for node in _nodes(bus):
        lines.append(f"    {node.id}{_MERMAID_SHAPES[node.shape].format(_entities(node.label))}")
        if node.before is not None:
            lines.append(f"    {node.before} {'-.->' if node.is_parked else '-->'} {node.id}")
        if node.is_parked:
            lines.append(f"    class {node.id} parked")
    return "\n".join(lines)


def _entities(label: str) -> str:
    """Write all that may mean something to Mermaid as the number of the character."""
    return "".join(
        char if char.isalnum() or char in " _.-()" else f"#{ord(char)};" for char in label
    )


_DOT_SHAPES = {"bus": "box3d", "chain": "oval", "block": "box"}


def draw_dot(bus: BusSnapshot) -> str:
    """Draw a bus as a directed graph in DOT, the language of Graphviz."""
    lines = ["digraph {", "    rankdir=LR"]
    for node in _nodes(bus):
        label = node.label.replace("\\", "\\\\").replace('"', '\\"')
        dashed = ", style=dashed" if node.is_parked else ""
        lines.append(f'    {node.id} [label="{label}", shape={_DOT_SHAPES[node.shape]}{dashed}]')
        if node.before is not None:
            style = " [style=dashed]" if node.is_parked else ""
            lines.append(f"    {node.before} -> {node.id}{style}")
    return "\n".join([*lines, "}"])
