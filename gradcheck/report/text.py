"""Text and figures as the report prints them: foreign text made visible and inert, numbers made short."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from datetime import datetime

NAME, SENTENCE, LISTING = 200, 2_000, 20_000

# Characters that a page must never act on: controls, bidirectional and invisible formatting, surrogates,
# noncharacters. Tab and newline stay.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def clean(value: object, limit: int = SENTENCE) -> str:
    """Return `value` as text of at most about `limit` characters in which nothing is invisible."""
    text = value if isinstance(value, str) else str(value)
    rest = len(text) - limit
    head = _UNPRINTABLE.sub(_escape, text[:limit].replace("\r\n", "\n").replace("\r", "\n"))
    return f"{head} … ({count(rest)} more characters)" if rest > 0 else head


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def name(value: object) -> str:
    """Return a name (formula, subject, version) as inert text."""
    return clean(value, NAME)


def anchor(kind: str, *parts: str) -> str:
    """Return an element id that depends on `parts` alone, whatever characters they hold."""
    digest = hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=5)
    return f"{kind}-{digest.hexdigest()}"


def count(value: int) -> str:
    """Return an integer with thousands separators."""
    return f"{value:,}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return "1 check" or "2 checks"."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def listed(items: Iterable[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    given = list(items)
    return given[0] if len(given) == 1 else " and ".join([", ".join(given[:-1]), given[-1]]) if given else ""


def as_float(value: object) -> float | None:
    """Return `value` (a number, or a number's text) as a float; None for what is neither."""
    if not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def figure(value: object, digits: int = 3) -> str:
    """Return a number with `digits` significant digits: 0.51, 12.5, 65,536, 3.1×10⁻⁷, ∞, NaN."""
    number = as_float(value)
    if number is None:
        return name(value)
    if math.isnan(number):
        return "NaN"
    sign = "−" if math.copysign(1.0, number) < 0 else ""
    size = abs(number)
    if math.isinf(size):
        return sign + "∞"
    if size == 0:
        return sign + "0"
    if 1e-3 <= size < 1e6:
        short = f"{size:.{digits}g}"
        return sign + (f"{size:,.0f}" if float(short) >= 10**digits else short)
    mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
    short = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{sign}{short}×{power(int(exponent))}"


def with_error(value: float, error: float) -> str:
    """Return a number with its standard error, both to two digits of the error: 1.0021 ± 0.0043."""
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return figure(value, 5)
    last = math.floor(math.log10(error)) - 1
    size = max(abs(value), error)
    if last >= -8 and size < 1e6:
        places = max(-last, 0)
        sign = "−" if value < 0 else ""
        return f"{sign}{abs(value):.{places}f} ± {error:.{places}f}"
    top = math.floor(math.log10(size))
    places = min(max(top - last, 0), 15)
    sign = "−" if value < 0 else ""
    # Powers in two steps: 10^-320 alone is not a normal number.
    scaled, scaled_error = (abs(v) / 10.0 ** (top // 2) / 10.0 ** (top - top // 2) for v in (value, error))
    return f"({sign}{scaled:.{places}f} ± {scaled_error:.{places}f})×{power(top)}"


def power(exponent: int, base: int = 10) -> str:
    """Return a power with a raised exponent, such as 10⁻⁷."""
    return f"{base}{str(exponent).translate(_SUPERSCRIPT)}"


def share(part: float, whole: float) -> str:
    """Return part/whole in percent; small shares keep a digit, and nothing that exists becomes 0 %."""
    if whole <= 0:
        return "–"
    percent = 100 * part / whole
    if percent == 0 or percent >= 10:
        return f"{percent:.0f}\u00a0%"
    return f"{percent:.1f}\u00a0%" if percent >= 0.1 else "<\u00a00.1\u00a0%"


def duration(started: str, finished: str) -> str:
    """Return the time between two ISO 8601 instants, or "" where either is missing or unreadable."""
    try:
        seconds = (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
    except (ValueError, TypeError):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    if seconds < 0:
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else f"{count(minutes)} min {rest:02d} s"
