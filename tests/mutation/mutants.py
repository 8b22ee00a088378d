"""The mutants of a module: one small change each, with what tells it from all others.

Owns what counts as a mutant; runs none. The changes are those of cosmic-ray's operators, and one of
our own: a statement left out, which shows a call of ``wake()`` that nobody needs.

Left out by rule is what cannot change what a program does: annotations, which are never evaluated;
what stands under ``if TYPE_CHECKING``, and its condition; what is an ``@overload``; the text of a
`cast`; the lone star of a signature, which is no operator; and what says the same as the original
or another mutant.

Invariant: a mutant's ``key`` holds no line number, so that it stays when lines move.
"""

from __future__ import annotations

import ast
import pickle
from collections import Counter
from difflib import SequenceMatcher
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.plugins import get_operator, operator_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPERATORS = [name for name in operator_names() if not name.startswith("core/Variable")]
"""All but the two that want the names of variables."""


class Mutant(NamedTuple):
    """A changed module."""

    module: str
    key: str
    """Module, function, the line as it was and as it became."""
    source: str
    lines: frozenset[int]
    """The lines of the statement that was changed, in the original."""
    body: frozenset[int]
    """The lines of the innermost function or class around it."""


class Span(NamedTuple):
    """A part of a source; lines count from 1 and columns from 0, as in `ast`."""

    start: tuple[int, int]
    end: tuple[int, int]

    def holds(self, other: Span) -> bool:
        return self.start <= other.start and other.end <= self.end


class Positions(Visitor):  # type: ignore[misc] # cosmic-ray has no types
    """Collects where an operator can change something."""

    def __init__(self, operator: Any) -> None:
        self.operator = operator
        self.found: list[Span] = []

    def visit(self, node: object) -> object:
        self.found += (Span(*place) for place in self.operator.mutation_positions(node))
        return node


class Original:
    """A module as it is, and what the rules say about it."""

    def __init__(self, path: Path) -> None:
        self.module = path.stem
        self.source = path.read_text(encoding="utf-8")
        self.lines = self.source.splitlines(keepends=True)
        self.tree = ast.parse(self.source)
        self.exempt = [_span(node) for node in _exempt(self.tree)]

    def is_exempt(self, place: Span) -> bool:
        (line, left), _ = place
        is_mark = self.lines[line - 1].startswith("*,", left)
        return is_mark or any(span.holds(place) for span in self.exempt)

    @cached_property
    def parsed(self) -> bytes:
        return pickle.dumps(get_ast(self.source))  # a copy is had ten times quicker than by parsing

    @cached_property
    def statements(self) -> list[ast.stmt]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.stmt)]

    def statement_at(self, place: Span) -> ast.stmt:
        """Give the innermost statement around a place; a decorator belongs to its function."""
        return max((one for one in self.statements if _span(one).holds(place)), key=_span)

    def scopes_of(self, statement: ast.stmt) -> list[ast.stmt]:
        """Give the functions and classes around a statement, and itself, from the outside in."""
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        around = [
            one
            for one in self.statements
            if isinstance(one, kinds) and _span(one).holds(_span(statement))
        ]
        return sorted(around, key=_span)


def find_mutants(path: Path) -> list[Mutant]:
    """Make the mutants of a module, in the order of its lines."""
    original = Original(path)
    changes = [*_by_cosmic_ray(original), *_left_out(original)]
    same = {_meaning(original.source), ""}
    numbers: Counter[str] = Counter()
    made = []
    for place, source in sorted(changes):
        meaning = _meaning(source)
        if meaning in same:
            continue
        same.add(meaning)
        mutant = _mutant(original, place, source)
        numbers[mutant.key] += 1
        number = numbers[mutant.key]
        made.append(mutant._replace(key=f"{mutant.key} ({number})") if number > 1 else mutant)
    return made


class _Plain(ast.NodeTransformer):
    """Says plainly what the operators say in several ways: ``not not x``, ``~1`` for -2."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        match self.generic_visit(node):
            case ast.UnaryOp(op=ast.Not(), operand=ast.UnaryOp(op=ast.Not(), operand=inner)):
                return inner
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))):
                return ast.Constant(-number)
            case ast.UnaryOp(op=ast.Invert(), operand=ast.Constant(value=int(number))):
                return ast.Constant(~number)
            case visited:
                return visited


def _meaning(source: str) -> str:
    """Give what tells one source from another, whatever their layout; nothing for what is none."""
    try:
        return ast.dump(_Plain().visit(ast.parse(source)))
    except SyntaxError:
        return ""


def _by_cosmic_ray(original: Original) -> Iterator[tuple[Span, str]]:
    for name in OPERATORS:
        operator = get_operator(name)()
        positions = Positions(operator)
        positions.walk(pickle.loads(original.parsed))
        for number, place in enumerate(positions.found):
            if not original.is_exempt(place):
                tree = pickle.loads(original.parsed)
                yield place, MutationVisitor(number, operator).walk(tree).get_code()


def _left_out(original: Original) -> Iterator[tuple[Span, str]]:
    """Leave out each statement that does something and binds no local name."""
    for statement in original.statements:
        place = _span(statement)
        if _does_something(statement) and not original.is_exempt(place):
            (first, left), (last, right) = place
            before = [*original.lines[: first - 1], original.lines[first - 1][:left]]
            after = [original.lines[last - 1][right:], *original.lines[last:]]
            yield place, "".join([*before, "pass", *after])


def _does_something(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Constant()) | ast.Expr(value=ast.Yield()):
            return False  # a docstring; a context manager without its yield is none
        case ast.Assign(targets=targets):
            return not any(isinstance(one, ast.Name) for one in targets)
        case ast.AnnAssign(target=ast.Attribute(), value=ast.expr()):
            return True
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Delete():
            return True
        case ast.Return(value=None):
            return True
        case _:
            return False


def _exempt(tree: ast.Module) -> Iterator[ast.AST]:
    """Give what is never evaluated, or for type checkers alone."""
    for node in ast.walk(tree):
        match node:
            case ast.arg(annotation=ast.expr() as annotation):
                yield annotation
            case ast.AnnAssign(annotation=annotation):
                yield annotation
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield node
            case ast.If(test=ast.UnaryOp(operand=ast.Name(id="TYPE_CHECKING")) as test):
                yield test
            case ast.Call(func=ast.Name(id="cast"), args=[kind, _]):
                yield kind
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if any(
                    isinstance(one, ast.Name) and one.id == "overload"
                    for one in node.decorator_list
                ):
                    yield node
                elif node.returns is not None:
                    yield node.returns
            case _:
                pass


def _span(node: Any) -> Span:
    """Give where a node stands, its decorators with their ``@`` among it."""
    first, *_ = decorators = [*getattr(node, "decorator_list", ()), node]
    left = first.col_offset - (len(decorators) > 1)
    return Span((first.lineno, left), (node.end_lineno, node.end_col_offset))


def _lines(statement: ast.stmt) -> range:
    """Give the lines of a statement; of a compound one, those of its header."""
    (first, _), (last, _) = _span(statement)
    body = getattr(statement, "body", None)
    return range(first, body[0].lineno if body else last + 1)


def _mutant(original: Original, place: Span, source: str) -> Mutant:
    statement = original.statement_at(place)
    scopes = original.scopes_of(statement)
    (first, _), (last, _) = _span(scopes[-1] if scopes else original.tree.body[-1])
    name = ".".join(getattr(one, "name", "") for one in scopes) or "the module"
    was, became = _difference(original.source, source)
    key = f"{original.module}: {name}: {was} -> {became}"
    return Mutant(
        original.module,
        key,
        source,
        frozenset(_lines(statement)),
        frozenset(range(first if scopes else 1, last + 1)),
    )


def _difference(was: str, became: str) -> tuple[str, str]:
    """Give the lines that differ, each side on one line."""
    old, new = was.splitlines(), became.splitlines()
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    changed = [block for block in blocks if block[0] != "equal"]
    first, last = changed[0], changed[-1]
    return _on_one_line(old[first[1] : last[2]]), _on_one_line(new[first[3] : last[4]])


def _on_one_line(lines: list[str]) -> str:
    return " ".join(line.split("  #")[0].strip() for line in lines)
