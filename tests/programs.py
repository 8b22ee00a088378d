"""How tests get hold of the programs under ``examples/``, which are no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

EXAMPLES = Path(__file__).parent.parent / "examples"


def load_example(name: str) -> ModuleType:
    """Import a program afresh, without running it or putting its folder on the path."""
    alias = f"examples_{name.replace('/', '_')}"
    spec = importlib.util.spec_from_file_location(alias, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module
