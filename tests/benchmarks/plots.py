"""Plots of how cost grows, and the tables of a page, from the benchmark's JSON.

    python -m tests.benchmarks.plots results.json --plots docs/explanation/images --page PAGE

Dispatch is drawn as the ratio to the bare loop, since in plain times all lines climb alike, over
four powers of ten, and what tells them apart is lost. Registration has no such yardstick that
matters, so it is drawn in microseconds.

The plots have no background of their own: every colour stands out from a white page and from a dark
one. Nobody has to tell colours apart, as each line has a marker of its own, and the legend lists
the lines as they lie at their right ends. The same results give the same bytes.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from matplotlib import rc_context
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .measure import BARE
from .pages import fill
from .results import Results, read
from .subjects import FLAVOURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from matplotlib.axes import Axes

    from .report import Figure


class Plot(NamedTuple):
    """One image."""

    name: str
    """Of the file, with neither Python's version nor suffix."""
    section: str
    variant: str
    title: str
    is_ratio: bool = True

    def height(self, figure: Figure) -> float | None:
        """Give where a figure lies; nothing where it has no ratio."""
        return figure.ratio if self.is_ratio else figure.value * 1e6


PLOTS = (
    Plot("sync-dispatch", "sync dispatch", "None", "Sync dispatch"),
    Plot("async-dispatch", "async dispatch", "None", "Async dispatch, asyncio"),
    Plot("async-dispatch-trio", "async dispatch", "trio, None", "Async dispatch, trio"),
    Plot(
        "async-dispatch-sync-callbacks",
        "async dispatch, sync callbacks",
        "None",
        "Async dispatch to sync callbacks, asyncio",
    ),
    Plot("registration", "register + unregister", "function", "Register and unregister", False),
)

INK = "#777777"
"""Text and axes."""
OURS = ("#0072b2", "#009270", "#7a62d3", "#8a7500")
PEERS = ("#d55e00", "#c4669b", "#777777")
MARKERS = "osD^vX*P<>hpd8H"
"""The first ones are ours."""

_SETTINGS: Any = {
    "svg.hashsalt": "tocsin",  # else the identifiers in the file are drawn by lot
    "svg.fonttype": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def styles(figures: Iterable[Figure]) -> dict[str, dict[str, Any]]:
    """Give each candidate a look that it has in all plots of these results."""
    peers = sorted({one.candidate for one in figures} - {BARE, *FLAVOURS})
    looks = {BARE: {"color": INK, "linestyle": ":", "linewidth": 1.5}}
    for index, name in enumerate([*FLAVOURS, *peers]):
        is_ours = name in FLAVOURS
        colours = OURS if is_ours else PEERS
        looks[name] = {
            "color": colours[index % len(colours)],
            "marker": MARKERS[index % len(MARKERS)],
            "linestyle": "-" if is_ours else "--",
            "linewidth": 2 if is_ours else 1,
        }
    return looks


def draw_all(results: Results, directory: Path) -> list[Path]:
    """Draw all plots for which there are figures; give the files."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for plot in PLOTS:
        if results.of(plot.section, plot.variant):
            path = directory / f"{plot.name}-python{results.minor}.svg"
            path.write_bytes(draw(results, plot))
            written.append(path)
    return written


def draw(results: Results, plot: Plot) -> bytes:
    """Give a plot as SVG."""
    looks = styles(results.figures)
    image = io.BytesIO()
    with rc_context(_SETTINGS):
        drawing = Drawing(figsize=(8, 5), layout="constrained")
        axes = drawing.subplots()
        sizes: set[int] = set()
        for name, line in _lines(results, plot):
            sizes.update(line)
            axes.plot(list(line), list(line.values()), label=name, gid=_id(name), **looks[name])
        _set_axes(axes, plot, sorted(sizes))
        drawing.legend(loc="outside right upper", frameon=False)
        drawing.supxlabel(results.origin, fontsize="x-small")
        drawing.savefig(image, format="svg", transparent=True, metadata=_NO_METADATA)
    return image.getvalue()


def _lines(results: Results, plot: Plot) -> Iterator[tuple[str, Mapping[int, float]]]:
    """Give each candidate's line, the one first that ends at the top."""
    lines: dict[str, dict[int, float]] = {}
    for one in results.of(plot.section, plot.variant):
        height = plot.height(one)
        if height is not None:
            lines.setdefault(one.candidate, {})[one.size] = height
    return iter(sorted(lines.items(), key=lambda item: -item[1][max(item[1])]))


def _id(name: str) -> str:
    """Give the identifier of a candidate's line in the file."""
    return "line-" + name.replace(" ", "-")


def _set_axes(axes: Axes, plot: Plot, sizes: list[int]) -> None:
    axes.set_title(plot.title)
    axes.set_xlabel("subscribers" if plot.is_ratio else "subscribers present")
    axes.set_ylabel("time, bare loop = 1" if plot.is_ratio else "microseconds")
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)  # which has a place for 0
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.5)


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--plots", type=click.Path(file_okay=False, path_type=Path), help="Draw into DIR.")
@click.option("--page", type=click.Path(exists=True, path_type=Path), help="Fill its tables.")
@click.option("--any", "is_any", is_flag=True, help="Take smoke runs and parts of a run, too.")
def main(results: tuple[Path, ...], plots: Path | None, page: Path | None, is_any: bool) -> None:
    """Publish RESULTS, the benchmark's JSON files, one for each Python.

    Nothing is written when one of them, or a mark of the page, is refused.
    """
    found = read_all(results, is_any=is_any)
    filled = None if page is None else fill(page.read_text("utf-8"), found)
    if plots is not None:
        for path in (path for one in found.values() for path in draw_all(one, plots)):
            click.echo(f"wrote {path}")
    if page is not None and filled is not None:
        page.write_text(filled, "utf-8")
        click.echo(f"filled the tables of {page}")


def read_all(paths: Iterable[Path], *, is_any: bool) -> dict[str, Results]:
    """Read results by Python's minor version; refuse those that are not to be published."""
    found: dict[str, Results] = {}
    for path in paths:
        one = read(path)
        if one.doubt and not is_any:
            raise click.ClickException(f"the figures of {path} are refused: {one.doubt}; see --any")
        if one.minor in found:
            raise click.ClickException(f"{path}: there are results of Python {one.minor} already")
        found[one.minor] = one
    return found


if __name__ == "__main__":
    main(prog_name="python -m tests.benchmarks.plots")
