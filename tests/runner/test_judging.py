"""A cell from draw to record: simplest counterexamples, confirmations, reproductions, codes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from gradcheck import checks
from gradcheck.formats import FLOAT32, FLOAT64
from gradcheck.formulas import get_formula
from gradcheck.records import Cell, Evidence, Verdict
from gradcheck.runner import judging
from gradcheck.runner.judging import Bench, judge, record, simpler
from gradcheck.runner.session import Profile
from gradcheck.subjects import get_subject
from tests.honest import elementwise


class Recorder:
    """A session that keeps what is recorded."""

    profile = Profile("test", examples=6, elements=300, patience=0.0)
    explore = False

    def __init__(self):
        self.rows, self.artifacts = [], {}
        self.store = self

    def record(self, cell, evidence, findings, seconds, confirmation):
        self.rows.append((cell, evidence, findings, confirmation))

    def artifact(self, kind, key, data):
        self.artifacts[kind, key] = data


def liar(bend):
    """A sigmoid whose value is bent."""
    return elementwise("sigmoid", FLOAT64, lambda x: bend(x, 1 / (1 + np.exp(-x))))


def judged(implementation, monkeypatch, check="value"):
    """Judge one implementation as the cell of a subject, and return the one row that is recorded."""
    session = Recorder()
    bench = Bench(Cell("sigmoid", "liar", "float64", check), get_formula("sigmoid"), FLOAT64, implementation)
    monkeypatch.setattr(judging, "bench", lambda cell: bench)
    verdict = judge(session, bench.cell, getattr(checks, check), 1.0, False)
    ((_, evidence, findings, confirmation),) = session.rows
    return verdict, evidence, findings, confirmation


def test_a_finding_shows_the_simplest_input_that_fails(monkeypatch):
    wrong_beyond_5 = liar(lambda x, y: np.where(x > 5, y * (1 + 1e-6), y))
    verdict, evidence, (finding,), confirmation = judged(wrong_beyond_5, monkeypatch)
    assert verdict is Verdict.WRONG
    assert evidence.worst.input == (8.0,)
    assert finding.code == "VALUE-WRONG"
    assert "8.0" in finding.message and "sigmoid" in finding.message
    answers = confirmation[finding.id]
    assert answers["mpmath"].startswith("0.99966464986953")
    assert answers["ball"].startswith("0.999664649869533")


def test_a_correct_implementation_is_recorded_without_a_finding(monkeypatch):
    verdict, evidence, findings, confirmation = judged(liar(lambda x, y: y), monkeypatch)
    assert verdict.passed and not findings and not confirmation
    assert evidence.compared > 1000


def test_an_exception_is_a_finding_with_its_traceback(monkeypatch):
    def raises(x, y):
        raise ZeroDivisionError("a message")

    verdict, evidence, (finding,), _ = judged(liar(raises), monkeypatch)
    assert verdict is Verdict.WRONG and finding.code == "SUBJECT-RAISED"
    assert any("ZeroDivisionError: a message" in note for note in evidence.notes)


def test_a_fault_of_long_arrays_alone_says_how_many_elements_it_needs(monkeypatch):
    last_of_many = liar(lambda x, y: np.where((np.arange(x.size) > 1).reshape(x.shape), y * 1.5, y))
    _, evidence, (finding,), _ = judged(last_of_many, monkeypatch)
    assert "needs" in evidence.worst.context and "needs" in finding.message


@pytest.mark.parametrize("x", [0.1, -37.98162632639507, 1e300, 5e-324, FLOAT32.largest])
def test_simpler_numbers_end_with_the_number_itself(x):
    candidates = list(simpler(x, FLOAT64))
    assert candidates[-1] == x
    assert candidates[0] == 1.0
    assert all(np.isfinite(candidates))


def test_the_reproduction_of_a_finding_runs_without_this_package(monkeypatch):
    session = Recorder()
    cell = Cell("sigmoid", "torch-cpu", "float32", "derivative")
    assert judge(session, cell, checks.derivative, 1.0, False) is Verdict.UNSTABLE
    ((_, evidence, (finding,), _),) = session.rows
    assert "gradcheck" not in finding.reproduction
    done = subprocess.run(
        [sys.executable, "-c", finding.reproduction], capture_output=True, text=True, check=True, timeout=120
    )
    assert repr(float(evidence.worst.got).hex()) in done.stdout


def test_the_reproduction_of_a_gradient_shows_the_cotangent_that_it_needs(monkeypatch):
    shown = {}

    def reproduce(what, inputs, cotangent, options, directions=()):
        shown.update(what=what, x=inputs[0], cotangent=cotangent)
        return "program"

    honest = get_subject("numpy").implement(get_formula("sigmoid"), FLOAT64)

    def vjp(inputs, cotangent, options):
        (gradient,) = honest.vjp(inputs, cotangent, options)
        return (np.where(np.abs(cotangent) > 4, np.nan, gradient),)

    spoilt = replace(honest, vjp=vjp, reproduce=reproduce)
    _, evidence, (finding,), confirmation = judged(spoilt, monkeypatch, "derivative")
    assert shown["what"] == "derivative" and shown["x"].size == 1 and abs(shown["cotangent"][0]) > 4
    assert repr(float(shown["cotangent"][0])) in finding.message and finding.reproduction == "program"
    assert float(confirmation[finding.id]["mpmath"]) == pytest.approx(evidence.worst.expected)


def test_the_reproduction_of_a_special_number_among_others_holds_it(monkeypatch):
    shown = {}

    def reproduce(what, inputs, cotangent, options, directions=()):
        shown.update(what=what, inputs=inputs)
        return "program"

    formula = get_formula("dense")
    honest = get_subject("numpy").implement(formula, FLOAT64)
    spoilt = replace(honest, forward=lambda inputs, options: np.nan_to_num(honest.forward(inputs, options)))
    session = Recorder()
    bench = Bench(
        Cell("dense", "liar", "float64", "special"), formula, FLOAT64, replace(spoilt, reproduce=reproduce)
    )
    monkeypatch.setattr(judging, "bench", lambda cell: bench)
    assert judge(session, bench.cell, checks.special, 0.25, False) is Verdict.WRONG
    ((_, evidence, (finding,), _),) = session.rows
    assert shown["what"] == "value"
    assert any(not np.isfinite(array).all() for array in shown["inputs"])
    assert not np.isfinite(evidence.worst.expected) and repr(evidence.worst.expected) in finding.message


def test_evidence_without_a_worst_element_still_makes_a_finding():
    session = Recorder()
    bench = Bench(Cell("sigmoid", "x", "float64", "value"), get_formula("sigmoid"), FLOAT64, None)
    evidence = Evidence(compared=1, cases=1, breaches={"shape": 1})
    assert record(session, bench, evidence, 0.0) is Verdict.WRONG
    ((_, _, (finding,), _),) = session.rows
    assert finding.code == "SHAPE-WRONG" and "shape" in finding.message
