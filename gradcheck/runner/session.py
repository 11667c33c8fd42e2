"""What a property sees of the run that it belongs to: its cells, its profile, its store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck.errors import unknown_name
from gradcheck.evidence import Store
from gradcheck.records import Cell, Evidence, Finding, Verdict

if TYPE_CHECKING:
    import hypothesis

    from gradcheck.article.claims import Claim
    from gradcheck.article.pictures import Picture
    from gradcheck.document import ClaimRecord

RUN_VARIABLE = "GRADCHECK_RUN"
CLAIMS_VARIABLE = "GRADCHECK_CLAIMS"
ONLY_VARIABLE = "GRADCHECK_ONLY"


@dataclass(frozen=True)
class Profile:
    """How much a run draws. `examples` counts the cases of one property, `elements` the numbers of one case.

    A run without a new record for `patience` seconds is taken for hung and ended.
    """

    name: str
    examples: int
    elements: int
    patience: float

    def settings(self, explore: bool = False) -> hypothesis.settings:
        """Return Hypothesis's settings, every field set: any other would come from the surroundings."""
        from hypothesis import HealthCheck, Phase, Verbosity, settings

        from gradcheck.runner.draws import settled

        return settings(
            max_examples=self.examples,
            derandomize=not explore,
            database=None,
            verbosity=Verbosity.normal,
            phases=(Phase.explicit, Phase.generate, Phase.target, Phase.shrink),
            stateful_step_count=50,
            report_multiple_bugs=False,
            # A proven truth takes longer than what Hypothesis expects of a test; a slow cell is no fault.
            suppress_health_check=(HealthCheck.too_slow,),
            deadline=None,
            print_blob=False,
            backend="hypothesis" if explore else settled(),
        )


PROFILES = (
    Profile("quick", examples=5, elements=500, patience=300.0),
    Profile("ci", examples=16, elements=1_000, patience=600.0),
    Profile("thorough", examples=200, elements=10_000, patience=3_600.0),
)


def get_profile(name: str) -> Profile:
    """Return the profile called `name`; an unknown name is a `UsageError`."""
    for profile in PROFILES:
        if profile.name == name:
            return profile
    raise unknown_name("profile", name, (p.name for p in PROFILES))


@dataclass(frozen=True)
class Session:
    """One run, as its property files see it."""

    store: Store
    profile: Profile
    plan: tuple[Cell, ...]
    explore: bool = False
    seed: int = 0
    claims: tuple[Path, ...] = ()

    def cells(self, check: str) -> tuple[Cell, ...]:
        """Return the planned cells of one check that are to be run."""
        return tuple(cell for cell in self.plan if cell.check == check and not cell.reason)

    def record(
        self,
        cell: Cell,
        evidence: Evidence,
        findings: Iterable[Finding] = (),
        seconds: float = 0.0,
        confirmation: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Write the evidence of `cell`; safe from several processes at once."""
        self.store.record(cell, evidence, findings, seconds, confirmation or {})

    def judge(
        self, cell: Cell, check: Callable[..., Evidence], *, share: float = 1.0, exhaustive: bool = False
    ) -> Verdict:
        """Draw cases for `cell`, let the check examine each, record the evidence, return the verdict.

        `check(implementation, formula, case)` is a check of `gradcheck.checks`; for the reference's own cells
        it is `check(formula, case)`. `share` scales the number of cases; `exhaustive` adds every input of a
        16-bit format.
        """
        from gradcheck.runner import judging

        return judging.judge(self, cell, check, share, exhaustive)

    def judge_initial(self, cell: Cell) -> Verdict:
        """Draw initial weights for `cell`, judge them by their law, record, return the verdict."""
        from gradcheck.runner import initial

        return initial.judge(self, cell)

    def judge_machine(self, cell: Cell) -> Verdict:
        """Let drawn events happen to an optimizer, record the evidence, return the verdict."""
        from gradcheck.runner import machines

        return machines.judge(self, cell)

    def check(self, f: Callable[..., Any], *inputs: Any, **same: Any) -> Any:
        """Check a function of your own (see `gradcheck.check`) and keep the evidence for the report."""
        from gradcheck.blackbox.api import check
        from gradcheck.blackbox.command import record

        result = check(f, *inputs, **same)
        record(result, self.store)
        return result

    def measure(self, claim: Claim) -> ClaimRecord | None:
        """Measure a claim, record what was found and return it; None if the run is not about its formula."""
        from gradcheck.checks.claims import measure

        if claim.text is not None and claim.text.formula not in {cell.formula for cell in self.plan}:
            return None
        record = measure(claim, self.profile.settings(self.explore), 10 * self.profile.examples)
        self.store.claim(record)
        return record

    def picture(self, row: str) -> Picture | None:
        """Compute the picture of a row of the article and keep it; None if the run is not about the row."""
        from gradcheck.article.pictures import PICTURES
        from gradcheck.article.rows import ROWS

        planned = {cell.formula for cell in self.plan}
        if not any(known.id == row and planned & set(known.formulas) for known in ROWS):
            return None
        picture = PICTURES[row]()
        self.store.artifact("picture", row, picture.record)
        return picture

    def user_claims(self) -> tuple[Claim, ...]:
        """Return the claims in the files that the run was given."""
        from gradcheck.checks.claims import load_claims

        return tuple(claim for path in self.claims for claim in load_claims(path))


def open_session(path: Path, claims: tuple[Path, ...] = ()) -> Session:
    """Return the session of the run file at `path`."""
    store = Store.open(path, write=True)
    info = store.run_info()
    return Session(store, get_profile(info.profile), store.cells(), info.explore, info.seed, claims)


def session_from_environment() -> Session | None:
    """Return the session that the parent process announced, or nothing outside a run."""
    path = os.environ.get(RUN_VARIABLE)
    if not path:
        return None
    _load_everything()
    claims = os.environ.get(CLAIMS_VARIABLE, "")
    return open_session(Path(path), tuple(Path(item) for item in claims.split(os.pathsep) if item))


def _load_everything() -> None:
    """Import every module of the package before anything is drawn.

    Hypothesis mixes constants from the source of the modules that are loaded into what it draws. Were they
    loaded one by one, the draws of a cell would depend on which cells its worker had taken before.
    """
    import importlib
    import pkgutil

    import gradcheck

    for module in pkgutil.walk_packages(gradcheck.__path__, "gradcheck."):
        if not module.name.endswith("__main__") and "_properties" not in module.name:
            importlib.import_module(module.name)
