"""Where gradients vanish or explode: predicted, measured, found and explained.

Every public name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck.lazy import load as _load

if TYPE_CHECKING:
    from gradcheck.flow.comparison import Comparison, compare
    from gradcheck.flow.diagnosis import Diagnosis, diagnose
    from gradcheck.flow.limits import FormatLimit, FormatRun, run_format
    from gradcheck.flow.measuring import LayerRow, Measurement, measure
    from gradcheck.flow.network import Network
    from gradcheck.flow.prediction import Prediction, predict
    from gradcheck.flow.remedies import Remedy, try_remedies
    from gradcheck.flow.search import Smallest, failure, find_smallest
    from gradcheck.flow.verdict import FlowFinding, FlowVerdict

__all__ = [
    "Comparison",
    "Diagnosis",
    "FlowFinding",
    "FlowVerdict",
    "FormatLimit",
    "FormatRun",
    "LayerRow",
    "Measurement",
    "Network",
    "Prediction",
    "Remedy",
    "Smallest",
    "compare",
    "diagnose",
    "failure",
    "find_smallest",
    "measure",
    "predict",
    "run_format",
    "try_remedies",
]

_HOMES = {
    "Comparison": "gradcheck.flow.comparison",
    "compare": "gradcheck.flow.comparison",
    "Diagnosis": "gradcheck.flow.diagnosis",
    "diagnose": "gradcheck.flow.diagnosis",
    "run_format": "gradcheck.flow.limits",
    "Remedy": "gradcheck.flow.remedies",
    "try_remedies": "gradcheck.flow.remedies",
    "FlowFinding": "gradcheck.flow.verdict",
    "FlowVerdict": "gradcheck.flow.verdict",
    "FormatLimit": "gradcheck.flow.limits",
    "FormatRun": "gradcheck.flow.limits",
    "LayerRow": "gradcheck.flow.measuring",
    "Measurement": "gradcheck.flow.measuring",
    "Network": "gradcheck.flow.network",
    "Smallest": "gradcheck.flow.search",
    "failure": "gradcheck.flow.search",
    "find_smallest": "gradcheck.flow.search",
    "measure": "gradcheck.flow.measuring",
    "Prediction": "gradcheck.flow.prediction",
    "predict": "gradcheck.flow.prediction",
}


def __getattr__(name: str) -> Any:
    return _load(name, _HOMES, globals())


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
