"""Every recorded program gives the kernel's answers, on every flavour and with either colour."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tocsin import NotifierBlock, RegistrationError

from .flavours import WAY_IDS, WAYS, Rig, maybe_await

pytestmark = pytest.mark.anyio

TRACES = Path(__file__).parent / "data" / "kernel_traces.jsonl.gz"
PROGRAMS = [json.loads(line) for line in gzip.decompress(TRACES.read_bytes()).splitlines()]


def test_there_are_fifteen_hundred_programs_of_every_kind() -> None:
    assert len(PROGRAMS) == 1500
    kinds = {op["op"] for program in PROGRAMS for op in program["ops"]}
    assert kinds == {"register", "register_unique_prio", "unregister", "call", "call_robust"}


class Machine:
    """Runs one program and answers as the kernel's functions do."""

    def __init__(self, rig: Rig, blocks: list[dict[str, Any]]) -> None:
        self.rig = rig
        self.blocks = {one["name"]: self._make(**one) for one in blocks}

    def _make(self, name: str, priority: int, returns: int) -> NotifierBlock[Any, Any, Any]:
        def note(event: int, data: object) -> int:
            self.rig.log[-1] = (name, event)
            return returns

        return NotifierBlock(self.rig.callback(name, note), name=name, priority=priority)

    async def answer(self, op: dict[str, Any]) -> dict[str, Any]:
        self.rig.drain()
        if op["op"].startswith("call"):
            return await self._call(op)
        block = self.blocks[op["block"]]
        try:
            if op["op"] == "unregister":
                await self.rig.unregister(block)
            else:
                await self.rig.register(block, unique_priority=op["op"] != "register")
        except RegistrationError as error:
            return {"ret": -error.errno}
        return {"ret": 0}

    async def _call(self, op: dict[str, Any]) -> dict[str, Any]:
        if op["op"] == "call_robust":
            ret = await self.rig.call_robust(op["event"], op["rollback_event"], None)
            return {"ret": ret, "called": [list(one) for one in self.rig.log]}
        if "nr_to_call" in op:
            report = await self.rig.call_report(op["event"], None, limit=op["nr_to_call"])
            answer = {"ret": report.result, "nr_calls": report.nr_calls}
        else:
            answer = {"ret": await self.rig.call(op["event"], None)}
        return answer | {"called": [name for name, _ in self.rig.log]}


@pytest.mark.parametrize(("flavour", "colour", "walk"), WAYS, ids=WAY_IDS)
async def test_every_program_gives_the_kernels_answers(
    flavour: Any, colour: str, walk: str
) -> None:
    for program in PROGRAMS:
        machine = Machine(Rig(flavour, colour=colour, walk=walk), program["blocks"])
        for number, op in enumerate(program["ops"]):
            expected = {key: op[key] for key in ("ret", "called", "nr_calls") if key in op}
            assert await machine.answer(op) == expected, (program["id"], number, op)


async def test_a_machine_notices_a_wrong_answer() -> None:
    rig = Rig(WAYS[0][0])
    machine = Machine(rig, [{"name": "b0", "priority": 0, "returns": 1}])
    assert await machine.answer({"op": "unregister", "block": "b0"}) == {"ret": -2}
    assert await maybe_await(machine.answer({"op": "register", "block": "b0"})) == {"ret": 0}
    assert await machine.answer({"op": "call", "event": 7}) == {"ret": 1, "called": ["b0"]}
