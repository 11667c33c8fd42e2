"""The command `gradcheck bench`: it parses, calls, prints."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradcheck import terminal

if TYPE_CHECKING:
    from gradcheck.bench.document import BenchDocument, Measurement

PATH = click.Path(path_type=Path, readable=False)
PROFILES = ("quick", "full")
REPORTS = Path("reports")
# So many lines a person reads in a terminal; the report has all.
_LINES = 24


@click.command()
@click.argument("function", metavar="[PACKAGE.MODULE:FUNCTION]", required=False)
@click.option("--like", metavar="NAME", help="The formula that the function computes.")
@click.option("--framework", type=click.Choice(("torch", "numpy", "jax")), default="torch", show_default=True)
@click.option("--profile", type=click.Choice(PROFILES), default="full", show_default=True, help="How much.")
@click.option("--formula", "formulas", multiple=True, metavar="GLOB", help='Only these, such as "gelu*".')
@click.option("--size", metavar="N,N", help="Numbers of elements, such as 1e3,1e5,1e7.")
@click.option("--format", "formats", multiple=True, metavar="NAME", help="Floating-point formats.")
@click.option("--forward/--backward", "forward", default=None, help="Values or gradients.  [default: both]")
@click.option("--save", metavar="NAME", help="Keep the run under .benchmarks, as pytest-benchmark does.")
@click.option("--compare", metavar="NAME", default="", help="Show what changed since a saved run.")
@click.option("--force", is_flag=True, help="Compare with another machine's run, and mark it.")
@click.option("--no-suite", is_flag=True, help="Leave out what the suite itself costs.")
@click.option("--out", type=PATH, default=REPORTS, show_default=True, help="Folder of the report.")
@click.option("--quiet", is_flag=True, help="Print the result alone.")
def bench(
    function: str | None,
    like: str | None,
    framework: str,
    profile: str,
    formulas: tuple[str, ...],
    size: str | None,
    formats: tuple[str, ...],
    forward: bool | None,
    save: str | None,
    compare: str,
    force: bool,
    no_suite: bool,
    out: Path,
    quiet: bool,
) -> int:
    """Time every formula beside its peers and the limit of the machine; with a FUNCTION, yours as well."""
    if bool(function) != bool(like):
        raise click.UsageError("a function of your own needs --like NAME, and --like needs the function")
    if function and formulas:
        raise click.UsageError("--formula goes without a function of your own: --like names its formula")
    from gradcheck.bench import plan, running, storage
    from gradcheck.bench.contenders import Yours
    from gradcheck.bench.document import BACKWARD, FORWARD
    from gradcheck.blackbox import command
    from gradcheck.report import bench as pages
    from gradcheck.runner.folder import prepare

    if save:
        storage.checked_name(save)
    directions = (FORWARD, BACKWARD) if forward is None else (FORWARD,) if forward else (BACKWARD,)
    sizes = plan.read_sizes(size) if size else ()
    request = running.Request(
        selection=plan.Selection(formulas, sizes, formats, directions, like or ""),
        profile=profile,
        yours=Yours(function, command.load(function), framework) if function else None,
        compare=compare,
        force=force,
        reports=next((each for each in (out, REPORTS) if (each / "run.sqlite").is_file()), out),
        costs=not (no_suite or function or formulas or sizes or formats),
        arguments=tuple(sys.argv[1:]),
    )
    screen = terminal.console(sys.stderr)
    # Progress is shown where a person waits for it; in a log it would be a thousand lines.
    shown = screen.is_terminal and not quiet
    document = running.run(request, lambda text: screen.print(terminal.inert(text)) if shown else None)
    _summarise(document, quiet)
    if save:
        terminal.console().print(f"saved: {terminal.inert(storage.save(document, save))}")
    page = pages.write(document, prepare(out))
    terminal.console().print(f"report: {terminal.inert(page)}")
    return 0


def _summarise(document: BenchDocument, quiet: bool) -> None:
    from gradcheck.report.bench import headline

    out = terminal.console()
    out.print(headline(document), style="bold")
    if quiet:
        return
    for warning in document.warnings:
        out.print(f"warning: {terminal.inert(warning)}")
    found = sorted(document.measurements, key=lambda m: m.share if math.isfinite(m.share) else math.inf)
    tasks = dict.fromkeys(m.task for m in document.measurements)
    if len(found) <= _LINES:
        for task in tasks:
            out.print(task.label)
            for each in (m for m in document.measurements if m.task == task):
                out.print(f"  {each.lane.label:<32}{_line(each)}")
    elif found:
        out.print("farthest from the limit:")
        for each in found[: _LINES // 2]:
            out.print(f"  {each.task.label + ', ' + each.lane.label:<72}{_line(each)}")
    for change in document.comparison.changes if document.comparison else ():
        if change.verdict in ("slower", "faster"):
            out.print(
                f"  {change.verdict}: {terminal.inert(change.name)}, {change.factor:.2f} of the time then"
            )


def _line(each: Measurement) -> str:
    from gradcheck.report.bench import spread

    ratio = "" if math.isnan(each.ratio.median) else f"{each.ratio.median:8.3g} × numpy"
    share = f"{100 * each.share:6.1f} % of the limit" if math.isfinite(each.share) else ""
    return f"{spread(each.seconds):<36}{ratio:<18}{share}{'  noisy' if each.noisy else ''}"
