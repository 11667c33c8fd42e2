"""All the wrong operations that were written by hand, and where each one is proved wrong."""

from __future__ import annotations

from tests.blackbox.corpus.operation import Operation
from tests.blackbox.corpus.proof import Proof
from tests.blackbox.corpus.wrong_activations import ACTIVATIONS
from tests.blackbox.corpus.wrong_calls import CALLS
from tests.blackbox.corpus.wrong_layers import LAYERS
from tests.blackbox.corpus.wrong_losses import LOSSES
from tests.blackbox.corpus.wrong_numpy import NUMPY
from tests.blackbox.corpus.wrong_second import SECOND
from tests.blackbox.corpus.wrong_shapes import SHAPES
from tests.blackbox.corpus.wrong_subtle import SUBTLE
from tests.blackbox.corpus.wrong_values import VALUES
from tests.blackbox.corpus.wrong_windows import WINDOWS

_FAMILIES = (ACTIVATIONS, VALUES, LAYERS, WINDOWS, SHAPES, LOSSES, CALLS, SECOND, NUMPY, SUBTLE)

WRONG_BY_HAND: tuple[Operation, ...] = tuple(o for family in _FAMILIES for o in family.operations)
PROOFS: dict[str, Proof] = {name: proof for family in _FAMILIES for name, proof in family.proofs.items()}
