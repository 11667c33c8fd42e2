"""Liars about clipping and penalties."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.honest_clipping import clip_by_norm, norm_of, row_norms, shrunk
from tests.lying import F32, F64, NARROW, WIDE, Liar
from tests.lying_families import (
    Part,
    from_arrays,
    gradient,
    ignoring,
    inside,
    instead,
    only,
    output,
    told,
    with_options,
)


def _factor(change: Part) -> Part:
    """Return one array times change(norm, max_norm, epsilon)."""

    def value(g: Any, *, max_norm: float, p: float, epsilon: float) -> Any:
        return g * change(norm_of((g,), p), np.longdouble(max_norm), np.longdouble(epsilon))

    return value


def _always(norm: Any, most: Any, epsilon: Any) -> Any:
    return most / (norm + epsilon)


def _squared(g: Any, *, max_norm: float, p: float, epsilon: float) -> Any:
    """Sum squares in the format, where they overflow."""
    total = np.sqrt((g * g).sum(dtype=g.dtype)) if p == 2 else g.dtype.type(norm_of((g,), p))
    return g * np.minimum(g.dtype.type(max_norm) / (total + g.dtype.type(epsilon)), 1)


def _by_rows(g: Any, *, max_norm: float, p: float, epsilon: float) -> Any:
    if g.ndim < 2:
        return clip_by_norm(g, max_norm=max_norm, p=p, epsilon=epsilon)
    return np.stack([clip_by_norm(row, max_norm=max_norm, p=p, epsilon=epsilon) for row in g])


def _powers_unrooted(g: Any, *, max_norm: float, p: float, epsilon: float) -> Any:
    if p in (1, math.inf):
        return clip_by_norm(g, max_norm=max_norm, p=p, epsilon=epsilon)
    return shrunk(g, norm_of((g,), p) ** np.longdouble(p), max_norm, epsilon)


def _apart(a: Any, b: Any, c: Any, **o: Any) -> Any:
    """Clip every array by its own norm."""
    return (*(clip_by_norm(part, **o) for part in (a, b, c)), norm_of((a, b, c), o["p"]))


def _summed_norms(a: Any, b: Any, c: Any, *, max_norm: float, p: float, epsilon: float) -> Any:
    norm = sum((norm_of((part,), p) for part in (a, b, c)), np.longdouble(0))
    return (*(shrunk(part, norm, max_norm, epsilon) for part in (a, b, c)), norm)


def _foreach_first(a: Any, b: Any, c: Any, *, max_norm: float, p: float, epsilon: float) -> Any:
    """Let the lists' form take its norm of the arrays with axes only."""
    norm = norm_of((a, b), p)
    return (*(shrunk(part, norm, max_norm, epsilon) for part in (a, b, c)), norm_of((a, b, c), p))


NORMS: tuple[Liar, ...] = (
    instead("clip_by_norm", "always", "short gradients are made longer", "value", _factor(_always)),
    told("clip_by_norm", "euclidean", "every norm is the 2-norm", "value", ignoring(p=2.0)),
    told(
        "clip_by_norm",
        "largest-as-sum",
        "the ∞-norm is the 1-norm",
        "value",
        with_options(lambda o: {"p": 1.0} if o["p"] == math.inf else {}),
    ),
    told(
        "clip_by_norm",
        "large-epsilon",
        "epsilon is 0.001 whatever is asked for",
        "value",
        ignoring(epsilon=1e-3),
        formats=WIDE,
    ),
    instead("clip_by_norm", "by-rows", "every row has a norm of its own", "value", _by_rows),
    instead(
        "clip_by_norm", "unrooted", "the root of the sum of powers is missing", "value", _powers_unrooted
    ),
    instead(
        "clip_by_norm",
        "to-one",
        "clips to 1 instead of to max_norm",
        "value",
        _factor(lambda n, c, e: np.where(n + e > c, 1 / (n + e), 1.0)),
    ),
    inside("clip_by_norm", "squared", "the sum of squares overflows", "value", _squared, formats=(F64, F32)),
    told(
        "clip_by_norm",
        "last-forgotten",
        "the last element does not count in the norm",
        "value",
        lambda inner, g, *, max_norm, p, epsilon: shrunk(g, norm_of((g.ravel()[:-1],), p), max_norm, epsilon),
    ),
    told(
        "clip_by_norm",
        "sign",
        "a clipped gradient loses its sign",
        "value",
        lambda inner, g, *, max_norm, p, epsilon: (
            np.abs(inner(g, max_norm=max_norm, p=p, epsilon=epsilon)) if norm_of((g,), p) > max_norm else g
        ),
    ),
    told(
        "clip_by_norm",
        "tolerant",
        "a norm up to twice max_norm passes",
        "value",
        lambda inner, g, *, max_norm, p, epsilon: (
            g if norm_of((g,), p) <= 2 * max_norm else inner(g, max_norm=max_norm, p=p, epsilon=epsilon)
        ),
    ),
    told(
        "clip_by_norm",
        "mean-in-16-bits",
        "the norm is of the mean in 16 bits",
        "value",
        lambda inner, g, *, max_norm, p, epsilon: shrunk(
            g, norm_of((g,), p) / np.sqrt(max(g.size, 1)), max_norm, epsilon
        ),
        formats=NARROW,
    ),
    instead("clip_by_global_norm", "apart", "every array has a norm of its own", "value", _apart),
    instead("clip_by_global_norm", "summed", "the norms of the arrays are added up", "value", _summed_norms),
    instead(
        "clip_by_global_norm",
        "foreach",
        "the lists' form misses the number without axes",
        "value",
        _foreach_first,
    ),
    output(
        "clip_by_global_norm",
        "clipped-norm",
        "returns the norm after clipping",
        3,
        lambda i, good, **o: norm_of(good[:3], o["p"]),
    ),
    output(
        "clip_by_global_norm", "last-unclipped", "the last array is left alone", 2, lambda i, good, **o: i[2]
    ),
    told("clip_by_global_norm", "euclidean", "every norm is the 2-norm", "value", ignoring(p=2.0)),
    told(
        "clip_by_norm",
        "hides-nan",
        "a NaN is passed over",
        "value",
        lambda inner, g, **o: np.where(np.isnan(g), 0.0, inner(np.nan_to_num(g), **o)),
        where="special",
    ),
    from_arrays(
        "clip_by_norm",
        "in-place",
        "g itself is clipped",
        lambda good, inputs, options: _written(inputs[0], good.forward(inputs, options)),
    ),
)


def _written(array: Any, found: Any) -> Any:
    np.copyto(array, found)
    return found


def _adaptive(change: Part) -> Part:
    def value(g: Any, w: Any, *, clipping: float, eps: float) -> Any:
        most, norm = change(g, w, np.longdouble(clipping), np.longdouble(eps))
        return np.where(norm > most, g * (most / np.where(norm > 0, norm, 1.0)), g)

    return value


ADAPTIVE: tuple[Liar, ...] = (
    instead(
        "adaptive_clip",
        "whole",
        "one norm for all units",
        "value",
        _adaptive(lambda g, w, c, e: (c * np.maximum(norm_of((w,)), e), norm_of((g,)))),
    ),
    instead(
        "adaptive_clip",
        "columns",
        "units are columns",
        "value",
        _adaptive(lambda g, w, c, e: (c * np.maximum(row_norms(w.T).T, e), row_norms(g.T).T)),
    ),
    instead(
        "adaptive_clip",
        "eps-added",
        "eps is added to the weight's norm",
        "value",
        _adaptive(lambda g, w, c, e: (c * (row_norms(w) + e), row_norms(g))),
    ),
    told("adaptive_clip", "without-eps", "eps is ignored", "value", ignoring(eps=0.0)),
    told(
        "adaptive_clip",
        "usual-clipping",
        "clipping is 0.01 whatever is asked for",
        "value",
        ignoring(clipping=0.01),
    ),
)


def _signs(change: Part) -> Part:
    return lambda i, c, g, decay: c * decay * change(i[0])


PENALTIES: tuple[Liar, ...] = (
    told("l2_penalty", "not-halved", "the 1/2 is missing", "value", lambda inner, w, **o: 2 * inner(w, **o)),
    gradient("l2_penalty", "doubled", "the gradient is 2λw", 0, lambda i, c, g, **o: 2 * g[0]),
    told(
        "l2_penalty",
        "rooted",
        "is the norm, not its square",
        "value",
        lambda inner, w, decay: decay / 2 * np.sqrt((w * w).sum()),
    ),
    told("l2_penalty", "mean", "is a mean", "value", lambda inner, w, **o: inner(w, **o) / w.size),
    told(
        "l2_penalty",
        "second-zero",
        "the second derivative is 0",
        "second",
        lambda inner, *a, **o: tuple(0 * g for g in inner(*a, **o)),
    ),
    gradient("l1_penalty", "of-square", "the gradient is λw", 0, _signs(lambda w: w)),
    gradient(
        "l1_penalty",
        "negative",
        "the gradient has the wrong sign below 0",
        0,
        _signs(lambda w: np.abs(np.sign(w))),
    ),
    told(
        "l1_penalty",
        "absolute-sum",
        "is the magnitude of the sum",
        "value",
        lambda inner, w, decay: decay * np.abs(w.sum()),
    ),
    told(
        "decoupled_decay",
        "grows",
        "the sign of the decay is wrong",
        "value",
        lambda inner, w, rate, decay: w + rate * decay * w,
    ),
    told(
        "decoupled_decay",
        "without-rate",
        "the rate does not scale the decay",
        "value",
        lambda inner, w, rate, decay: w - decay * w,
    ),
    told(
        "decoupled_decay", "twice", "decays twice", "value", lambda inner, w, **o: inner(inner(w, **o), **o)
    ),
    told(
        "decoupled_decay",
        "exponential",
        "is exp(-ηλ) w",
        "value",
        lambda inner, w, rate, decay: w * np.exp(-rate * decay),
    ),
    gradient("gradient_norm_penalty", "without-two", "the gradient is Hg", 2, lambda i, c, g: g[2] / 2),
    gradient(
        "gradient_norm_penalty",
        "second-layer-only",
        "the first layer has no gradient",
        2,
        lambda i, c, g: 0 * g[2],
    ),
    told(
        "gradient_norm_penalty",
        "norm",
        "is the norm, not its square",
        "value",
        lambda inner, *a: np.sqrt(inner(*a)),
    ),
    told(
        "gradient_norm_penalty",
        "summed",
        "of the sum of squared errors, not their mean",
        "value",
        lambda inner, x, y, *w: inner(x, y, *w) * y.size**2,
    ),
    told(
        "kronecker_penalty",
        "of-weights",
        "sums the magnitudes of the weights",
        "value",
        lambda inner, w, decay: decay * np.abs(w).sum(),
    ),
    gradient("kronecker_penalty", "of-signs", "has the gradient of Σ|w|", 0, _signs(np.sign)),
    told(
        "kronecker_penalty",
        "rows",
        "counts the rows alone",
        "value",
        only(lambda w, **o: w.ndim == 2, lambda inner, w, decay: decay * np.float64(len(w))),
    ),
)

CLIPPING_LIARS: tuple[Liar, ...] = (*NORMS, *ADAPTIVE, *PENALTIES)
