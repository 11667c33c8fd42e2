"""A synthetic run of any size, shaped like a real one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from gradcheck.document import (
    SCHEMA_VERSION,
    CheckRecord,
    ClaimRecord,
    Document,
    FindingRecord,
    NotRunRecord,
    Number,
    RunInfo,
    number,
)

FORMULAS = (
    *(
        "relu",
        "leaky_relu",
        "sigmoid",
        "tanh",
        "hardtanh",
        "relu6",
        "elu",
        "celu",
        "selu",
        "gelu",
        "gelu_tanh",
    ),
    *("silu", "softplus", "log_sigmoid", "mish", "hardsigmoid", "hardswish", "softsign", "prelu"),
    *("preactivation", "neuron", "dense"),
)
SUBJECTS = ("numpy", "scipy", "torch-cpu", "torch-cuda")
FORMATS = ("float64", "float32", "float16", "bfloat16")
CHECKS = ("value", "derivative", "second", "layout", "module", "special", "proof", "witness")
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "a\u202egnp.exe",
    "\x1b[31mred\x1b[0m",
    "nul\x00byte",
    "lone\ud800surrogate",
    "../../x",
    "::error::boom",
    "</style></pre></details>{{ 7*7 }}{% raw %}",
    "line\u2028separator\u200bzero",
)
VERDICTS = (
    ("accurate",) * 70 + ("agrees",) * 20 + ("unstable",) * 6 + ("wrong",) * 2 + ("vacuous", "inconclusive")
)
FAMILIES = ("plain", "log-uniform", "offset", "cancelling", "saturated", "ties", "kinks", "subnormal")


def _check(draw: random.Random, formula: str, subject: str, fmt: str, check: str) -> CheckRecord:
    verdict = draw.choice(VERDICTS)
    exhaustive = fmt.endswith("16") and check in ("value", "derivative")
    compared = 0 if verdict == "vacuous" else 65_536 if exhaustive else draw.randrange(1_000, 40_000)
    bad = verdict in ("wrong", "unstable")
    ulp = draw.choice((math.inf, 3.2e6, 812.0)) if verdict == "wrong" else draw.uniform(0.4, 40 if bad else 4)
    families = (
        {f: draw.randrange(50, 4_000) for f in draw.sample(FAMILIES, 6)}
        if not exhaustive
        else {"exhaustive": compared}
    )
    point = draw.uniform(-20, 20)
    return CheckRecord(
        id=f"{formula}/{subject}/{fmt}/{check}",
        formula=formula,
        subject=subject,
        format=fmt,
        check=check,
        verdict=verdict,
        compared=compared,
        label="proven" if check == "second" else "exhaustive" if exhaustive else "largest found",
        ulp=ulp if math.isfinite(ulp) else "inf",
        resolution=10 ** draw.uniform(-16, -3),
        input=number(point),
        expected=number(math.tanh(point)),
        got=number(math.tanh(point) * (1 + 1e-6)),
        bound=1e-9,
        error=1e-6 if bad else 1e-10,
        outside_accepted=draw.randrange(1, 900) if bad else 0,
        outside_unstable=draw.randrange(1, 90) if verdict == "wrong" else 0,
        cases=draw.randrange(1, 300),
        explained_by=["output-rebuilt derivative σ(1−σ)"] if verdict == "unstable" else [],
        families=families,
        binades={f"2^{8 * k}": draw.randrange(1, 40) * (9 - abs(k)) for k in range(-8, 9)}
        | {"0": 12, "non-finite": 4},
        specials=draw.randrange(0, 500),
        undecided=3 if verdict == "inconclusive" else 0,
        notes=["ran out of time"] if verdict == "inconclusive" else [],
        seconds=draw.uniform(0.01, 2),
    )


def _finding(draw: random.Random, check: CheckRecord, serial: int, known: bool) -> FindingRecord:
    wrong = check.verdict == "wrong"
    special = wrong and draw.random() < 0.4
    return FindingRecord(
        id=f"F-{serial:06x}",
        code=f"{check.check.upper()}-{'WRONG' if wrong else 'UNSTABLE'}",
        verdict=check.verdict,
        check=check.id,
        input=number(math.inf) if special else check.input or number(0.0),
        expected=number(1.0) if special else check.expected or number(0.0),
        got=number(math.nan) if special else check.got or number(0.0),
        ulp="inf" if special else check.ulp,
        bound="0" if special else 1e-9,
        error="nan" if special else 1e-6,
        message=(
            f"{check.formula} of {check.subject} in {check.format} answers NaN at +inf, where the limit is 1."
            if special
            else f"The {check.check} of {check.formula} loses accuracy where its output "
            "saturates: the derivative is rebuilt from the rounded output."
        ),
        known=known,
        reason="torch evaluates the backward pass from the rounded output (seen in 2.9 to 2.13)"
        if known
        else "",
        reproduction=(
            "import torch\n"
            f"x = torch.tensor(float.fromhex('-0x1.6p+2'), dtype=torch.{check.format}, requires_grad=True)\n"
            f"y = torch.nn.functional.{check.formula}(x)\n"
            "y.backward()\n"
            "print(x.grad.item().hex())  # expected 0x1.8p-9"
        ),
        explained_by=list(check.explained_by),
        confirmation={
            "ball": "[4.53e-05 ± 2.1e-38] at 128 bits",
            "mpmath": "4.53978687024343e-05 at 50 digits",
        },
    )


def _claims() -> list[ClaimRecord]:
    return [
        ClaimRecord(
            "F01",
            "pre-activation",
            "refuted",
            3_000,
            1e-15,
            {"N": "2", "w": "(1.0, 1.0)", "x": "(1.0,)"},
            "z = w1·x1 + w2·x2 + … + wN·x(N−1) + b",
            "z = Σ wᵢ·xᵢ + b",
            None,
            "2",
            "preactivation",
            "N ≥ 2",
        ),
        ClaimRecord(
            "F07",
            "ReLU and its derivative",
            "upheld",
            65_536,
            0.0,
            {},
            "g = max(0, x)",
            "max(0, x)",
            None,
            "3.1.1",
            "relu",
            "every float16 number",
            ["kink at 0: the derivative is taken in [0, 1]"],
        ),
        ClaimRecord(
            "F08",
            "sigmoid",
            "conditional",
            20_000,
            2.2e-16,
            {"x": "-89.0"},
            "y = 1/(1 + e^−x)",
            "σ(x)",
            None,
            "3.1.1",
            "sigmoid",
            "all x",
            ["overflows inside below −88.7 in float32"],
        ),
        ClaimRecord(
            "F09",
            "leaky ReLU",
            "refuted",
            3_000,
            1e-16,
            {"x": "-1.0", "alpha": "0.5"},
            "y = max(α·x, max(0, x))",
            "x for x ≥ 0, α·x for x < 0",
            "relu",
            "3.1.1",
            "leaky_relu",
            "0 < α < 1",
        ),
    ]


def _artifacts(draw: random.Random, checks: list[CheckRecord]) -> dict[str, dict[str, Any]]:
    def ladder(power: float, noise: float) -> list[list[float | str]]:
        steps = [10.0**-k for k in range(1, 14)]
        errors = [0.3 * h**power + noise / h * draw.uniform(0.1, 1) for h in steps]
        return [[h, e, 4 * e] for h, e in zip(steps, errors, strict=True)]

    step = {
        formula: {
            "x": 0.7,
            "exact": "0.7554",
            "series": {
                "central": ladder(2, 1e-16),
                "richardson": ladder(4, 3e-16),
                "complex": [
                    [10.0**-k, max(0.0, 0.3 * 10.0 ** (-2 * k) - 1e-17), "nan"] for k in range(1, 31, 2)
                ],
            },
        }
        for formula in dict.fromkeys(check.formula for check in checks)
        if formula not in ("relu", "hardtanh", "dense")
    }
    xs = [-(10.0**k) for k in (4.5, 3, 2, 1, 0, -1, -2, -4, -6, -7)]
    xs += [-x for x in reversed(xs)]
    profile = {
        check.id: {
            "x": [x * (1e33 if check.format == "bfloat16" and abs(x) > 1e3 else 1) for x in xs],
            "ulp": [draw.uniform(0.3, 3) if draw.random() < 0.9 else draw.choice((9.0, 4e5)) for _ in xs],
        }
        for check in checks
        if check.label == "exhaustive" and check.check == "value"
    }
    row = {"at": "+inf", "order": "value", "limit": "1", "textbook": "1", "got": "nan", "accepted": False}
    special = {
        check.id: [row, {**row, "at": "-0", "accepted": True}] for check in checks if check.check == "special"
    }
    rates = {
        "correct": {
            "calls": 5_400,
            "alarms": 0,
            "upper": 6.8e-4,
            "unstable": 3,
            "undecided": 0,
            "groups": {"activations": {"calls": 3_000, "alarms": 0, "upper": 1e-3}},
        },
        "liars": {"calls": 48, "caught": 47, "upper": 0.095, "groups": {"families": {"planted": 18}}},
    }
    return {"step": step, "ulp_profile": profile, "special": special, "rates": rates}


def make_document(
    formulas: int = len(FORMULAS), known: bool = True, hostile: bool = False, missing: int = 3, seed: int = 1
) -> Document:
    """Return a run over the first `formulas` formulas; everything in it depends on `seed` alone."""
    draw = random.Random(seed)
    checks: list[CheckRecord] = []
    not_run: list[NotRunRecord] = []
    for formula in FORMULAS[:formulas]:
        for subject in SUBJECTS:
            for fmt in FORMATS:
                for check in CHECKS:
                    names = (formula, subject, fmt, check)
                    if subject == "torch-cuda":
                        not_run.append(NotRunRecord("/".join(names), *names, "no CUDA device is present"))
                    elif subject == "scipy" and fmt == "bfloat16":
                        not_run.append(NotRunRecord("/".join(names), *names, "SciPy has no bfloat16"))
                    elif not (subject == "scipy" and formula in FORMULAS[14:]):
                        checks.append(_check(draw, *names))
    lost = [
        NotRunRecord(c.id, c.formula, c.subject, c.format, c.check, "the worker ended")
        for c in checks[:missing]
    ]
    checks = checks[missing:]
    faulty = [check for check in checks if check.verdict in ("wrong", "unstable")]
    findings = [
        _finding(draw, check, 0x3FA9C1 + 7 * i, known and i % 12 > 0) for i, check in enumerate(faulty)
    ]
    if hostile:
        checks, findings = _poison(checks, findings)
    return Document(
        schema_version=SCHEMA_VERSION,
        run=RunInfo(
            started="2026-01-01T09:30:00Z",
            finished="2026-01-01T09:34:41Z",
            profile="ci",
            seed=0,
            versions={
                "gradcheck": "0.1.0",
                "python": "3.12.3",
                "numpy": "2.4.0",
                "scipy": "1.17.0",
                "torch": "2.13.0",
            },
            machine={"processor": "x86_64, avx512", "cores": "2", "system": "Linux 6.8"},
            planned=len(checks) + len(not_run) + len(lost),
            recorded=len(checks),
            not_run=len(not_run),
            self_test={"good accepted": 30, "bad caught": 30},
        ),
        checks=checks,
        findings=findings,
        claims=_claims() if formulas else [],
        not_run=not_run,
        missing=lost,
        stale_known=["F-0badc0 torch-cpu 2.9..2.10: no finding matches"] if known and formulas else [],
        artifacts=_artifacts(draw, checks) if formulas else {},
        exit_code=3 if lost else 1 if any(not f.known for f in findings) else 0,
    )


def _poison(
    checks: list[CheckRecord], findings: list[FindingRecord]
) -> tuple[list[CheckRecord], list[FindingRecord]]:
    poisoned: list[CheckRecord] = []
    for serial, text in enumerate(HOSTILE):
        poisoned.append(
            CheckRecord(
                f"{text}/{serial}",
                text,
                text,
                text,
                text,
                text,
                5,
                text,
                "nan",
                text,
                families={text: 5},
                binades={text: 3},
                explained_by=[text],
                notes=[text],
                options={text: text},
            )
        )
        findings = [
            *findings,
            FindingRecord(
                text,
                text,
                text,
                f"{text}/{serial}",
                Number(text, text),
                Number(text, text),
                Number(text, text),
                text,
                text,
                text,
                serial % 2 == 0,
                text,
                [Number(text, text)] * 20,
                text,
                [text],
                text,
                {text: text},
            ),
        ]
    infinite = number(math.inf)
    huge = "<b>" + "x" * 10_000_000
    findings = [
        *findings,
        FindingRecord(
            "F-huge", "HUGE", "wrong", "huge", infinite, infinite, infinite, "inf", "0", huge, False, huge
        ),
    ]
    return [*checks, *poisoned], findings


@pytest.fixture(scope="session")
def document() -> Document:
    """A run of every formula, with findings of both kinds."""
    return make_document()


@pytest.fixture(scope="session")
def make() -> Callable[..., Document]:
    """The maker of synthetic runs."""
    return make_document
