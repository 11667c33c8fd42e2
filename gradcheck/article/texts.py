"""The article's claims as data: what is said, where, on which domain; nothing says whether it is true."""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck.errors import unknown_name


@dataclass(frozen=True)
class ClaimText:
    """What the article says: formula as printed, the reference beside it, the domain that it means.

    `citation` stands where nothing that can be computed decides: history, motives.
    """

    id: str
    section: str
    says: str
    printed: str
    reference: str
    domain: str
    formula: str
    citation: str = ""


CLAIMS: tuple[ClaimText, ...] = (
    ClaimText(
        "F01",
        "2",
        "the pre-activation of a neuron is z = w1·x1 + w2·x2 + … + wN·x(N−1) + b",
        "z = w1·x1 + w2·x2 + … + wN·x(N−1) + b",
        "z = Σ wᵢxᵢ + b",
        "N ≥ 2 inputs with a weight each, all numbers",
        "preactivation",
    ),
    ClaimText(
        "F02",
        "2",
        "the derivative of a neuron f(z) is σ'(z)·w1·x1 + … + σ'(z)·wN·xN",
        "df/dz = σ'(z) = Σ σ'(z)·wᵢ·xᵢ",
        "df/dz = σ'(z)",
        "N ≥ 1 inputs, all numbers, σ the sigmoid",
        "neuron",
    ),
    ClaimText(
        "F07", "3.1.1", "ReLU is g(z) = max(0, z)", "g = max(0, z)", "max(0, x)", "all numbers", "relu"
    ),
    ClaimText(
        "F07.derivative",
        "3.1.1",
        "the derivative of ReLU is 0 on the negative half-line",
        "g'(z) = 0",
        "the derivative of max(0, x)",
        "z < 0",
        "relu",
    ),
    ClaimText(
        "F08",
        "3.1.1",
        "the sigmoid is y = 1/(1 + e^−x)",
        "y = 1/(1 + e^−x)",
        "σ(x), evaluated without overflow",
        "all numbers",
        "sigmoid",
    ),
    ClaimText(
        "F08.limits",
        "3.1.1",
        "e^−∞ ≈ 0 and e^∞ ≈ ∞",
        "e^−∞ ≈ 0, e^∞ ≈ ∞",
        "the limits of exp",
        "numbers beyond ±1000",
        "sigmoid",
    ),
    ClaimText(
        "F08.derivative",
        "3.1.1",
        "the derivative of the sigmoid is continuous: σ' = σ(1 − σ)",
        "y(1 − y) with y = 1/(1 + e^−x)",
        "σ(x)·σ(−x)",
        "all numbers",
        "sigmoid",
    ),
    ClaimText(
        "F09",
        "3.1.1",
        "Leaky ReLU is y = max(αx, max(0, x))",
        "y = max(αx, max(0, x))",
        "x for x ≥ 0, αx for x < 0",
        "0 < α < 1, all x",
        "leaky_relu",
    ),
)


def get_text(id: str) -> ClaimText:
    """Return the article's claim called `id`; an unknown one is a `UsageError`."""
    for text in CLAIMS:
        if text.id == id:
            return text
    raise unknown_name("claim", id, (text.id for text in CLAIMS))
