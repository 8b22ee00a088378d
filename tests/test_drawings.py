"""A bus is drawn for people, and whatever things are called, the drawing stays in order."""

from __future__ import annotations

import re
from ast import literal_eval
from typing import Any

import pydot
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin import AtomicChain, Bus, RawChain, Scope, SrcuChain
from tocsin.drawings import draw_dot, draw_mermaid, draw_tree


def good(event: Any, data: Any) -> None:
    """Do nothing."""


async def agood(event: Any, data: Any) -> None:
    """Do nothing."""


def make_bus() -> Bus:
    bus = Bus("the shop")
    bus.set_filters({"orders": "check_*,hello,send_mail", "order": "check_stock"})
    with Scope("sales").ambient():
        orders = bus.add(SrcuChain("orders", errors="isolate"))
    with Scope("stock").ambient():
        orders.register_nowait(
            agood, name="check_stock", priority=10, timeout=2.5, events=["placed", "change of mind"]
        )
    orders.register_nowait(good, name="check_fraud", priority=-1, once=True, events=())
    orders.register_nowait(agood, name="audit", priority=100)
    orders.register_nowait(good, name="send_mail", thread=True, before="x", after=["y", "m:z"])
    bus.add(AtomicChain('net "dev"\n', filter=lambda block: True)).register(good)
    bus.add(RawChain("devices"))
    return bus


TREE = """\
bus 'the shop'
├─ orders: SrcuChain, errors=isolate, filter=NameFilter(['check_*', 'hello', 'send_mail']), \
unmatched=hello, owner=sales
│  ├─  10 check_stock: async, timeout=2.5 s, events='change of mind'|placed, owner=stock
│  ├─   0 send_mail: thread, before=x, after=y|m:z
│  ├─  -1 check_fraud: once, events=none
│  └─ 100 audit: parked, async
├─ 'net "dev"\\n': AtomicChain, filter=<lambda>
│  └─ 0 good
├─ devices: RawChain, no blocks
└─ order: a filter, but no chain"""

MERMAID = """\
flowchart LR
    classDef parked stroke-dasharray: 5 5
    bus[["bus #39;the shop#39;"]]
    chain0(["orders (SrcuChain)"])
    bus --> chain0
    chain0_0["check_stock (10)"]
    chain0 --> chain0_0
    chain0_1["send_mail (0)"]
    chain0_0 --> chain0_1
    chain0_2["check_fraud (-1)"]
    chain0_1 --> chain0_2
    chain0_3["audit (100)"]
    chain0 -.-> chain0_3
    class chain0_3 parked
    chain1(["#39;net #34;dev#34;#92;n#39; (AtomicChain)"])
    bus --> chain1
    chain1_0["good (0)"]
    chain1 --> chain1_0
    chain2(["devices (RawChain)"])
    bus --> chain2"""

DOT = """\
digraph {
    rankdir=LR
    bus [label="bus 'the shop'", shape=box3d]
    chain0 [label="orders (SrcuChain)", shape=oval]
    bus -> chain0
    chain0_0 [label="check_stock (10)", shape=box]
    chain0 -> chain0_0
    chain0_1 [label="send_mail (0)", shape=box]
    chain0_0 -> chain0_1
    chain0_2 [label="check_fraud (-1)", shape=box]
    chain0_1 -> chain0_2
    chain0_3 [label="audit (100)", shape=box, style=dashed]
    chain0 -> chain0_3 [style=dashed]
    chain1 [label="'net \\"dev\\"\\\\n' (AtomicChain)", shape=oval]
    bus -> chain1
    chain1_0 [label="good (0)", shape=box]
    chain1 -> chain1_0
    chain2 [label="devices (RawChain)", shape=oval]
    bus -> chain2
}"""


@pytest.mark.parametrize(
    ("draw", "expected"), [(draw_tree, TREE), (draw_mermaid, MERMAID), (draw_dot, DOT)]
)
def test_a_drawing_is_this_text_and_no_other(draw: Any, expected: str) -> None:
    assert draw(make_bus().snapshot()) == expected


def test_describe_is_the_tree() -> None:
    bus = make_bus()
    assert bus.describe() == TREE
    with bus.get("orders", SrcuChain).only("check_*"), bus.get("orders", SrcuChain).only("audit"):
        assert "only=NameFilter(['check_*']) & NameFilter(['audit']), unmatched" in bus.describe()


def test_an_empty_bus_is_a_line() -> None:
    assert Bus("main").describe() == "bus main: empty"


def test_a_filter_is_one_line_whatever_it_is_called() -> None:
    def odd(block: object) -> bool:
        return True

    odd.__qualname__ = "odd\nname"
    bus = Bus("main")
    bus.add(AtomicChain("one", filter=odd))
    assert bus.describe() == "bus main\n└─ one: AtomicChain, filter='odd\\nname', no blocks"


ODD = [
    *('"', "'", "\\", '\\"', "end'", "\n", "\r\n", "\x00", "\x1b[2J", "\u202e", "\ud800", "größe"),
    *("end", "a --> b", "<b>", "#quot;", "`x`", '"]; x["', "style: #1;", "%%{init}%%", "\\N", "//"),
]
NAMES = st.text(min_size=1, max_size=12) | st.sampled_from(ODD)


def odd_bus(name: str, chain: str, event: str) -> Bus:
    def callback(event: Any, data: Any) -> None:
        """Do nothing."""

    callback.__qualname__ = f"x{chain}"  # unlike the name that one gives, it is not checked
    bus = Bus(name)
    bus.add(AtomicChain(chain)).register(callback, events=event)
    return bus


@given(NAMES, NAMES, NAMES)
def test_no_name_breaks_the_tree(name: str, chain: str, event: str) -> None:
    tree = odd_bus(name, chain, event).describe()
    assert [line[:3] for line in tree.split("\n")] == ["bus", "└─ ", "   "]
    assert tree.replace("\n", "").isprintable()
    tree.encode()


QUOTES = "'\""
LABEL = r'"(?:[^\W_]|[ _.()-]|#\d+;)*"'
MERMAID_LINE = re.compile(
    r"flowchart LR|    classDef parked stroke-dasharray: 5 5|    class \w+ parked"
    rf"|    \w+(?:\[\[{LABEL}\]\]|\(\[{LABEL}\]\)|\[{LABEL}\])|    \w+ (?:-->|-\.->) \w+"
)


@given(NAMES, NAMES, NAMES)
def test_no_name_breaks_a_mermaid_graph_and_each_can_be_read_back(
    name: str, chain: str, event: str
) -> None:
    drawn = draw_mermaid(odd_bus(name, chain, event).snapshot())
    lines = drawn.split("\n")
    assert all(MERMAID_LINE.fullmatch(line) for line in lines), drawn
    assert len(lines) == 7
    [_, label, _] = lines[2].split('"')
    assert shown(re.sub(r"#(\d+);", lambda found: chr(int(found[1])), label)) == f"bus {name}"


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # pydot's own
@given(NAMES, NAMES, NAMES)
def test_no_name_breaks_a_dot_graph_and_each_can_be_read_back(
    name: str, chain: str, event: str
) -> None:
    drawn = draw_dot(odd_bus(name, chain, event).snapshot())
    [graph] = pydot.graph_from_dot_data(drawn) or []
    nodes = {node.get_name(): node.get("label") for node in graph.get_nodes()}
    assert set(nodes) == {"bus", "chain0", "chain0_0"}
    edges = [(edge.get_source(), edge.get_destination()) for edge in graph.get_edges()]
    assert edges == [("bus", "chain0"), ("chain0", "chain0_0")]
    label = re.sub(r"\\(.)", r"\1", nodes["bus"][1:-1])
    assert shown(label) == f"bus {name}"


def shown(label: str) -> str:
    """Undo what is done to names that are not plain."""
    word, _, name = label.partition(" ")
    return f"{word} {literal_eval(name) if name[0] in QUOTES else name}"
