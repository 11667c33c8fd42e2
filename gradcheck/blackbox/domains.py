"""What numbers an input takes, as a user says it: by name, by bounds, or by a Hypothesis strategy."""

from __future__ import annotations

import inspect
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import UsageError, closest
from gradcheck.subjects.function import CallFailed, Draw, Vector

NAMES = ("positive", "unit", "spd", "index(10)")
Shape = tuple[int, ...]
_INDEX = re.compile(r"index\((\d+)\)")
# How many values of a strategy are drawn; the checks take theirs from these.
_POOL = 64


def _any(shape: Shape) -> bool:
    return True


def _square(shape: Shape) -> bool:
    return len(shape) >= 2 and shape[-1] == shape[-2]


@dataclass(frozen=True)
class Domain:
    """What numbers an input takes; `project` maps any array into it, of a shape that `fits`.

    The domain of whole numbers has `draw` instead. `low` and `high` are its bounds.
    """

    name: str
    project: Callable[[Vector, Shape], Vector]
    fits: Callable[[Shape], bool] = _any
    draw: Draw | None = None
    low: float = -math.inf
    high: float = math.inf


def _spd(x: Vector, shape: Shape) -> Vector:
    matrix = np.where(np.isfinite(x), np.clip(x, -1e6, 1e6), 0.0).reshape(shape)
    product = matrix @ np.swapaxes(matrix, -1, -2)
    return np.asarray(product + (1 + np.abs(product).max(initial=0.0)) * np.eye(shape[-1]) / 4).ravel()


def _within(low: float, high: float) -> Callable[[Vector, Shape], Vector]:
    def fold(x: Vector, shape: Shape) -> Vector:
        width = high - low
        inside = (x > low) & (x < high)
        wrapped = low + np.mod(np.where(np.isfinite(x), x, 0.5), 1.0) * width
        return np.where(inside, x, np.clip(wrapped, low + width / 64, high - width / 64))

    return fold


def _beyond(low: float, high: float) -> Callable[[Vector, Shape], Vector]:
    """Return what mirrors numbers at the only finite bound; what rounds to the bound is moved off it."""
    bound, way = (low, 1.0) if math.isfinite(low) else (high, -1.0)

    def fold(x: Vector, shape: Shape) -> Vector:
        mirrored = bound + way * np.abs(np.where(np.isnan(x), bound + way, x) - bound)
        return np.where(way * (x - bound) > 0, x, np.where(mirrored == bound, bound + way, mirrored))

    return fold


def _positive(x: Vector, shape: Shape) -> Vector:
    return np.where(x == 0, 1.0, np.abs(x))


def _as_it_is(x: Vector, shape: Shape) -> Vector:
    return x


def domain_of(said: Any, place: str, seed: int = 0, shape: Shape | None = None) -> Domain | None:
    """Return the domain that a user named, None for None; `UsageError` for what is none."""
    if said is None or isinstance(said, Domain):
        return said
    if isinstance(said, str):
        return _named(said, place)
    if _is_strategy(said):
        return of_strategy(said, place, seed, shape)
    if isinstance(said, tuple) and len(said) == 2 and all(_is_number(v) for v in said):
        low, high = map(float, said)
        if low < high and (math.isfinite(low) or math.isfinite(high)):
            fold = _within if math.isfinite(high - low) else _beyond
            return Domain(f"{low} to {high}", fold(low, high), low=low, high=high)
    raise UsageError(
        f"{place}: expected a domain {', '.join(map(repr, NAMES))}, a pair (low, high), low < high, of "
        f"which one may be infinite, or a Hypothesis strategy, got {said!r}"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _named(said: str, place: str) -> Domain:
    found = _INDEX.fullmatch(said.replace(" ", ""))
    if found is not None and int(found[1]) > 0:
        count = int(found[1])

        def draw(shape: Shape, rng: np.random.Generator) -> NDArray[Any]:
            return rng.integers(0, count, shape)

        return Domain(said, _as_it_is, draw=draw, low=0, high=count - 1)
    if said == "positive":
        return Domain(said, _positive, low=0.0)
    if said == "unit":
        return Domain(said, _within(0.0, 1.0), low=0.0, high=1.0)
    if said == "spd":
        return Domain(said, _spd, fits=_square)
    raise UsageError(f"{place}: expected a domain, got {said!r}; {closest(said, NAMES)}")


def _is_strategy(said: Any) -> bool:
    # Hypothesis is not imported for those who do not use it here.
    return any(owner.__name__ == "SearchStrategy" for owner in type(said).__mro__)


def of_strategy(strategy: Any, place: str, seed: int, shape: Shape | None) -> Domain:
    """Return the domain of what a strategy draws: numbers, or whole arrays of the example's shape.

    The values are the same for the same seed. `UsageError` says what the strategy gave that does not fit.
    """
    values = _drawn(strategy, place, seed)
    arrays = [_fitting(value, place, shape) for value in values]
    whole = arrays[0].ndim > 0 or shape == ()
    if any((a.ndim > 0) != (arrays[0].ndim > 0) for a in arrays):
        raise UsageError(f"{place}: the strategy gives numbers and arrays; expected one of them")

    def chosen(rng: np.random.Generator, wanted: Shape) -> NDArray[Any]:
        if whole:
            return arrays[int(rng.integers(len(arrays)))].reshape(wanted)
        return np.array([float(a) for a in arrays])[rng.integers(0, len(arrays), wanted)]

    def project(x: Vector, wanted: Shape) -> Vector:
        rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(x).tobytes()))
        return np.asarray(chosen(rng, wanted), dtype=np.float64).ravel()

    def fits(wanted: Shape) -> bool:
        return not whole or wanted == shape

    return Domain(f"of {strategy!r}", project, fits=fits, draw=lambda wanted, rng: chosen(rng, wanted))


def _drawn(strategy: Any, place: str, seed: int) -> list[Any]:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    found: list[Any] = []

    @seeded(seed)
    @settings(
        max_examples=_POOL,
        database=None,
        derandomize=False,
        phases=(Phase.generate,),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    try:
        collect()
    except Exception as error:
        said = str(error).partition("\n")[0][:200]
        raise UsageError(f"{place}: the strategy draws nothing: {type(error).__name__}: {said}") from error
    return found


def _fitting(value: Any, place: str, shape: Shape | None) -> NDArray[Any]:
    told = repr(value)[:60]
    expected = f"a number or an array of shape {shape}"
    try:
        array = np.asarray(value)
    except ValueError:
        raise UsageError(f"{place}: the strategy gives {told}; expected {expected}") from None
    if array.dtype.kind not in "fiu":
        raise UsageError(f"{place}: the strategy gives {told} ({type(value).__name__}); expected {expected}")
    if not np.isfinite(array).all():
        raise UsageError(
            f"{place}: the strategy gives {told}, where no difference can be taken; "
            "use allow_nan=False, allow_infinity=False"
        )
    if array.ndim and shape is not None and array.shape != shape:
        raise UsageError(f"{place}: the strategy gives an array of shape {array.shape}; expected {expected}")
    return array


@dataclass(frozen=True)
class _Place:
    name: str
    shape: Shape
    whole: bool
    active: bool
    example: Any


def limited(function: Any, said: Any, f: Any, seed: int) -> tuple[Any, tuple[Domain | None, ...]]:
    """Return a function whose other examples lie in the domains of a user, and one domain per input.

    `said` is one domain for all inputs that it fits, a list with one entry per input, or a mapping by the
    names of inputs or of the parameters of `f`.
    """
    if said is None:
        return function, (None,) * len(function.active)
    places = [_place(leaf) for leaf in function.leaves]
    wanted = _assigned(said, places, function, f)
    found: list[Domain | None] = []
    leaves = []
    for leaf, place, each in zip(function.leaves, places, wanted, strict=True):
        domain = domain_of(each, place.name, seed, place.shape)
        if domain is not None:
            _check(domain, place)
        found.append(domain)
        leaves.append(leaf if domain is None else replace(leaf, draw=_draw(domain)))
    if any(domain is not None for domain in found):
        function = replace(function, leaves=tuple(leaves))
    return function, tuple(found[k] for k in function.active)


def _place(leaf: Any) -> _Place:
    array = leaf.tensor if hasattr(leaf, "tensor") else leaf.array
    kind = str(array.dtype)
    return _Place(leaf.name, tuple(array.shape), "int" in kind, leaf.active, array)


def _assigned(said: Any, places: Sequence[_Place], function: Any, f: Any) -> list[Any]:
    """Return what was said about each place, None for nothing."""
    own = [k for k, fixed in enumerate(function.fixed) if not fixed]
    wanted: list[Any] = [None] * len(places)
    if isinstance(said, Mapping):
        names = {places[k].name: k for k in range(len(places))}
        aliases = {**_parameters(f, names), **names}
        for name, each in said.items():
            if name not in aliases:
                known = ", ".join([*names, *(n for n in aliases if n not in names)])
                raise UsageError(f"domain: there is no input {name!r}; the inputs are {known}")
            wanted[aliases[name]] = each
        return wanted
    if isinstance(said, list):
        moving = [k for k in own if places[k].active]
        chosen = next((c for c in (own, moving, list(function.active)) if len(c) == len(said)), None)
        if chosen is None:
            raise UsageError(f"domain: expected {len(own)} entries, one per input, got {len(said)}")
        for k, each in zip(chosen, said, strict=True):
            wanted[k] = each
        return wanted
    whole = isinstance(said, str) and said.replace(" ", "").startswith("index(")
    fitting = [k for k in own if places[k].whole] if whole else [k for k in own if places[k].active]
    if whole and not fitting:
        raise UsageError(f"domain: {said!r} is for whole numbers, and there is no input of them")
    for k in fitting:
        wanted[k] = said
    return wanted


def _parameters(f: Any, names: Mapping[str, int]) -> dict[str, int]:
    try:
        parameters = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        return {}
    return {name: names[f"input {k}"] for k, name in enumerate(parameters) if f"input {k}" in names}


def _check(domain: Domain, place: _Place) -> None:
    """Refuse a domain that does not fit an input, or an example outside of its domain."""
    name = place.name
    if place.whole and domain.draw is None:
        raise UsageError(
            f'{name} has whole numbers: expected a domain such as "index(10)" or st.integers(0, 9), '
            f"got {domain.name!r}"
        )
    if not place.whole and domain.name.startswith("index("):
        raise UsageError(f"{name}: {domain.name!r} is for whole numbers, and this input has real ones")
    if not domain.fits(place.shape):
        raise UsageError(
            f"{name}: {domain.name!r} takes square matrices (..., n, n), got shape {place.shape}"
        )
    if math.isinf(domain.low) and math.isinf(domain.high):
        return
    array = place.example
    low, high = (float(array.min()), float(array.max())) if math.prod(place.shape) else (domain.low,) * 2
    for value in (low, high):
        if value < domain.low or value > domain.high:
            raise UsageError(f"{name}: the example has {value:g}, which is not in its domain {domain.name!r}")


def _draw(domain: Domain) -> Draw:
    def draw(shape: Shape, rng: np.random.Generator) -> NDArray[Any]:
        if not domain.fits(shape):
            raise CallFailed(f"the domain {domain.name!r} has no array of shape {shape}")
        if domain.draw is not None:
            return domain.draw(shape, rng)
        return domain.project(rng.normal(size=math.prod(shape)), shape).reshape(shape)

    return draw
