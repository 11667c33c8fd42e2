"""The command line: it parses, calls, prints. What is heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from gradcheck import __version__, terminal
from gradcheck.cli_bench import bench
from gradcheck.errors import (
    GradcheckError,
    LockedError,
    MissingDependencyError,
    StorageError,
    UntrustworthyError,
)

OK, FINDING, USAGE, LOCKED, STORAGE, UNTRUSTWORTHY, INTERRUPTED = 0, 1, 2, 4, 5, 6, 130
PROFILES = ("quick", "ci", "thorough")
DEFAULT_RUN = Path("reports/run.sqlite")
_EXIT_CODES = (
    (LockedError, LOCKED),
    (StorageError, STORAGE),
    (UntrustworthyError, UNTRUSTWORTHY),
    (MissingDependencyError, UNTRUSTWORTHY),
)


# Whether a path can be read or written is for its user to say, with the right exit code.
PATH = click.Path(path_type=Path, readable=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gradcheck")
def cli() -> None:
    """Verify the formulas that neural networks are trained with: which are right, and how right."""


@cli.command()
@click.option(
    "--profile", type=click.Choice(PROFILES), default="ci", show_default=True, help="How much to draw."
)
@click.option(
    "--formula", "formulas", multiple=True, metavar="GLOB", help='Only these formulas, such as "gelu*".'
)
@click.option("--subject", "subjects", multiple=True, metavar="NAME", help="Only these implementations.")
@click.option("--format", "formats", multiple=True, metavar="NAME", help="Only these floating-point formats.")
@click.option("--check", "checks", multiple=True, metavar="NAME", help="Only these checks.")
@click.option("--explore", is_flag=True, help="Draw fresh cases instead of the same ones every time.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="The seed of an exploration; implies --explore."
)
@click.option("--claims", "claims", type=PATH, multiple=True, metavar="FILE", help="Python file with claims.")
@click.option("--known", type=PATH, metavar="FILE", help="List of known findings.")
@click.option("--out", type=PATH, default=Path("reports"), show_default=True, help="Folder of the report.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Worker processes.  [default: the cores]")
@click.option("--quiet", is_flag=True, help="Print the verdict and the path of the report alone.")
def verify(explore: bool, seed: int | None, jobs: int | None, quiet: bool, **asked: Any) -> int:
    """Check implementations against proven truth and write the report."""
    from gradcheck.runner import environment
    from gradcheck.runner.verify import Request, fresh_seed
    from gradcheck.runner.verify import verify as run

    if explore and seed is None:
        seed = fresh_seed()
    out = terminal.console()
    if seed is not None and not quiet:
        out.print(f"exploring; the same cases again: --seed {seed}")
    with terminal.watching(out, quiet) as watch:
        outcome = run(Request(**asked, seed=seed, jobs=jobs or environment.cores()), watch)
    terminal.summarise(out, outcome.document, outcome.page, outcome.note, quiet)
    return outcome.document.exit_code


@cli.command()
@click.argument("run", type=PATH, default=DEFAULT_RUN)
@click.option("--out", type=PATH, help="Folder of the report.  [default: the run's folder]")
@click.option("--known", type=PATH, metavar="FILE", help="List of known findings.")
@click.option("--json", "as_json", is_flag=True, help="Print evidence.json instead of writing a page.")
@click.option("--known-template", is_flag=True, help="Print entries of the known list for new findings.")
def report(run: Path, out: Path | None, known: Path | None, as_json: bool, known_template: bool) -> int:
    """Render the page of a finished run (a run.sqlite) again."""
    from gradcheck import evidence
    from gradcheck import report as pages
    from gradcheck.runner.folder import prepare

    document = _document(run, known)
    if as_json:
        click.echo(evidence.to_json(document), nl=False)
        return OK
    if known_template:
        from gradcheck.known import known_entry_text

        for finding in document.findings:
            if not finding.known:
                click.echo(known_entry_text(finding, document.run.versions))
        return OK
    page = pages.write(document, prepare(out or run.parent))
    terminal.console().print(f"report: {terminal.inert(page)}")
    return OK


@cli.command()
@click.argument("finding", metavar="ID")
@click.option(
    "--run", type=PATH, default=DEFAULT_RUN, show_default=True, help="The run that holds the finding."
)
def replay(finding: str, run: Path) -> int:
    """Run the check behind one finding again, and print how to reproduce it without this package."""
    import tempfile

    from gradcheck.errors import unknown_name
    from gradcheck.records import Cell
    from gradcheck.runner.verify import replay as again

    document = _document(run)
    record = next((item for item in document.findings if item.id == finding), None)
    if record is None:
        raise unknown_name("finding", finding, (item.id for item in document.findings))
    out = terminal.console()
    out.print(f"{record.id} {terminal.inert(record.code)} {terminal.inert(record.check)}")
    out.print(terminal.inert(record.message))
    out.print(terminal.listing(record.reproduction))
    with tempfile.TemporaryDirectory(prefix="gradcheck-replay-") as folder:
        outcome = again(Cell(*record.check.split("/")), document.run, Path(folder))
        log = outcome.log.read_text(encoding="utf-8", errors="replace")
    found = {item.id: item for item in outcome.document.findings}
    if finding in found:
        out.print(f"still there: {terminal.inert(found[finding].message)}")
        return FINDING
    if outcome.note:
        out.print(terminal.inert(outcome.note))
        out.print(terminal.listing(log[-4_000:]))
        return outcome.document.exit_code
    out.print("gone: the check no longer gives this finding")
    return OK


@cli.command()
@click.argument("function", metavar="PACKAGE.MODULE:FUNCTION")
@click.option(
    "--input", "inputs", multiple=True, required=True, metavar="TEXT",
    help="An example, such as 'float64[8,4]', 'float64[3]:positive', 'float64[3]:-1..1', 'int64[8]<10'.",
)  # fmt: skip
@click.option("--framework", type=click.Choice(("torch", "numpy", "jax")), default="torch", show_default=True)
@click.option("--vjp", metavar="PACKAGE.MODULE:FUNCTION", help="The pull-back of a NumPy function.")
@click.option("--reference", metavar="NAME", help="A formula of the catalogue, or PACKAGE.MODULE:FUNCTION.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the reference.")
@click.option("--check", "checks", multiple=True, metavar="NAME", help="Only these checks.")
@click.option("--max-seconds", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--report", "folder", type=PATH, metavar="DIR", help="Write the report of this check.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(
    function: str,
    inputs: tuple[str, ...],
    framework: str,
    vjp: str | None,
    reference: str | None,
    options: tuple[str, ...],
    checks: tuple[str, ...],
    max_seconds: float,
    seed: int,
    folder: Path | None,
    as_json: bool,
) -> int:
    """Check the gradients of a function of your own, in a process of its own."""
    from gradcheck.blackbox import command
    from gradcheck.blackbox.api import check as judge

    said = [command.read_input(text) for text in inputs]
    f = command.load(function)
    named = command.load(reference, "the reference") if reference and ":" in reference else reference
    result = judge(
        f,
        *command.inputs_of(said, framework, seed),
        vjp=None if vjp is None else command.load(vjp, "the vjp"),
        reference=named,
        options=dict(_option(text) for text in options),
        domain=[each.limit for each in said],
        framework=framework,
        checks=checks or None,
        max_seconds=max_seconds,
        seed=seed,
        isolate=True,
        parameters=True,
    )
    if folder is not None:
        page = command.write_report(result, folder)
        terminal.console(sys.stderr).print(f"report: {terminal.inert(page)}")
    click.echo(result.to_json() if as_json else terminal.listing(str(result)), nl=not as_json)
    return OK if result.ok else FINDING


def _option(text: str) -> tuple[str, Any]:
    """Return name and value of `eps=1e-5`; a value that is no number or truth value is text."""
    import ast

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--option {text!r}: expected NAME=VALUE, such as eps=1e-5")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


_OF_NETWORK = (
    click.option("--activation", metavar="NAME", help="In the catalogue, or PACKAGE.MODULE:FUNCTION."),
    click.option("--init", metavar="RULE", help="torch, kaiming, xavier, lecun or orthogonal."),
    click.option("--weight-variance", type=float, help="fan_in · Var w, instead of what the rule says."),
    click.option("--bias-variance", type=float, help="Var b."),
    click.option("--gain", type=float, help="Multiplies the weights."),
    click.option("--depth", type=int, help="Layers, or residual blocks."),
    click.option("--width", type=int, help="Units of a layer, or channels."),
    click.option("--norm", metavar="NAME", help="batch, layer or rms, before the activation."),
    click.option("--batch", type=int, help="Inputs that one network sees."),
    click.option("--keep", type=float, help="1 - the dropout rate."),
    click.option("--residual", metavar="SCALE", help="Of a branch: a number, 1/sqrt(L) or 1/L."),
    click.option("--distribution", metavar="NAME", help="gaussian, uniform or orthogonal."),
    click.option("--kind", metavar="NAME", help="dense or conv."),
    click.option("--kernel", type=int, help="Of a convolution."),
    click.option("--size", type=int, help="Of its maps."),
    click.option("--padding", metavar="NAME", help="zeros or circular."),
    click.option("--format", "format", metavar="NAME", help="float16, bfloat16, float32 or float64."),
)
_OF_OTHERS = (
    click.option("--input", "inputs", multiple=True, metavar="TEXT", help="Model: 'float32[32,784]'."),
    click.option("--loss", metavar="PACKAGE.MODULE:FUNCTION", help="Model: the loss of its output."),
    click.option("--no-remedies", is_flag=True, help="Model: measure no remedies."),
    click.option("--plane", metavar="NAME", help="Map: weights (σ_w × σ_b), gain-depth or batch-depth."),
    click.option("--grid", type=int, help="Map: points along an axis.  [default: 40]"),
    click.option("--x", metavar="LOW..HIGH", help="Map: ends of the horizontal axis."),
    click.option("--y", metavar="LOW..HIGH", help="Map: ends of the vertical axis."),
    click.option("--only", multiple=True, metavar="CHAPTER", help="Study: only this chapter."),
    click.option("--seeds", type=int, help="Networks drawn.  [default: 32; of a model 8]"),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True),
    click.option("--out", type=PATH, help="Folder of the page.  [default of study and map: reports]"),
    click.option("--json", "as_json", is_flag=True, help="Print the document as JSON."),
    click.option("--quiet", is_flag=True, help="Print the verdict alone."),
)


def _with(*options: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return what adds options to a command, in their order."""

    def added(command: Callable[..., int]) -> Callable[..., int]:
        for option in reversed(options):
            command = option(command)
        return command

    return added


@cli.command(epilog="Exit code 1: a number beyond theory, or a gradient that vanishes or explodes.")
@click.argument("target", required=False, metavar="[atlas | PACKAGE.MODULE:BUILD]")
@_with(*_OF_NETWORK, *_OF_OTHERS)
def flow(target: str | None, seed: int, out: Path | None, as_json: bool, quiet: bool, **asked: Any) -> int:
    r"""Find where gradients vanish or explode.

    \b
    gradcheck flow                                  the study: theory beside measurement
    gradcheck flow --activation tanh --depth 30     one random network
    gradcheck flow lib.nets:build --input 'float32[32,784]'       your own model
    gradcheck flow atlas --activation gelu          a map of predicted and measured gradients
    """
    from gradcheck.flow import command
    from gradcheck.report import flow as pages

    given = {
        name: value
        for name, value in asked.items()
        if value is not None and value is not False and value != ()
    }
    screen = terminal.console(sys.stderr)
    say = (lambda text: None) if quiet else (lambda text: screen.print(f"gradcheck: {terminal.inert(text)}"))
    outcome = command.run(target, given, seed, say)
    if out is None and outcome.mode in (command.STUDY, command.ATLAS):
        out = Path("reports")
    names = f"{outcome.stem}.html", f"{outcome.stem}.json"
    page = None if out is None else pages.write(outcome.document, out, *names)
    if as_json:
        click.echo(outcome.document.to_json())
    else:
        terminal.summarise_flow(terminal.console(), outcome.document, outcome.text, page, quiet)
    return FINDING if outcome.failed else OK


@cli.command()
@click.argument("code")
def explain(code: str) -> int:
    """Say what the code of a finding means and what to do about it."""
    from gradcheck import catalogue

    click.echo(str(catalogue.explanation(code.upper())), nl=False)
    return OK


LISTS = ("formulas", "subjects", "checks", "claims", "formats", "codes")


@cli.command("list")
@click.argument("what", type=click.Choice(LISTS))
def list_(what: str) -> int:
    """List what there is."""
    from gradcheck import catalogue

    terminal.names(terminal.console(), catalogue.names(what))
    return OK


@cli.command()
def doctor() -> int:
    """Show the environment and run the self-test."""
    import time

    from gradcheck.runner import environment, selftest

    out = terminal.console()
    terminal.names(out, environment.versions())
    terminal.names(out, environment.machine())
    begun = time.perf_counter()
    result = selftest.run()
    seconds = time.perf_counter() - begun
    out.print(f"self-test: {result.good} right and {result.bad} wrong answers judged in {seconds:.1f} s")
    selftest.require(result)
    out.print("self-test passed", style="bold")
    return OK


cli.add_command(bench)


def _document(run: Path, known: Path | None = None) -> Any:
    from gradcheck import evidence
    from gradcheck.known import KnownList
    from gradcheck.runner import locate

    # The list that `verify` takes by itself, so that a page rendered again says what the first one said.
    chosen = known or locate.known(locate.properties())
    store = evidence.Store.open(run)
    try:
        return store.document(None if chosen is None else KnownList.load(chosen))
    finally:
        store.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return int(cli.main(arguments, prog_name="gradcheck", standalone_mode=False) or OK)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        terminal.error("interrupted")
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        usage = f" (see: {context.command_path} --help)" if context else ""
        terminal.error(f"{error.format_message()}{usage}")
        return USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STORAGE
    except GradcheckError as error:
        terminal.error(error)
        return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), USAGE)
    except ModuleNotFoundError as error:
        terminal.error(
            f"{error.name} is not installed, and nothing can be judged without it; reinstall gradcheck"
        )
        return UNTRUSTWORTHY
    except OSError as error:
        terminal.error(f"{error.filename or 'storage'}: {error.strerror or error}")
        return STORAGE
