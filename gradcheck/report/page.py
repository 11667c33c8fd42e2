"""A document as one HTML page, and the page as a file."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from gradcheck.document import Document
from gradcheck.files import write_atomically
from gradcheck.flow.document import FlowDocument
from gradcheck.report.model import page
from gradcheck.report.text import clean, name

_HERE = Path(__file__).parent
SLUGS = {"supported": "accurate", "refuted": "wrong", "qualified": "unstable"}


def render(document: Document, flow: FlowDocument | None = None, *, bench: bool = False) -> str:
    """Return the report as one HTML page that loads nothing from outside and runs no script.

    `flow` is the study of gradients whose page stands beside it and is linked to; `bench` says that the page
    of a benchmark stands there, too.
    """
    beside = None if flow is None else (clean(flow.title, 200), clean(flow.headline, 400))
    return fill(
        "page.html", ("style.css",), page=page(document), flow=beside, decided=decided(flow), bench=bench
    )


def decided(flow: FlowDocument | None) -> tuple[tuple[str, ...], ...]:
    """Return (class, verdict, id, sentence, why) of the article's claims that the study decided."""
    if flow is None:
        return ()
    found = [claim for chapter in flow.chapters for claim in chapter.claims]
    return tuple(
        (SLUGS.get(c.verdict, "unknown"), name(c.verdict), name(c.id), clean(c.text, 400), clean(c.says, 800))
        for c in sorted(found, key=lambda claim: claim.id)
    )


def fill(template: str, styles: Sequence[str], **given: Any) -> str:
    """Return a template filled in; its style sheets are the only ones that the page's policy allows."""
    style = "".join((_HERE / "templates" / each).read_text(encoding="utf-8") for each in styles)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**given, style=style, style_hash=f"sha256-{digest}")


def write(document: Document, folder: str | os.PathLike[str]) -> Path:
    """Write the report to `folder`/index.html, all or nothing, and return its path.

    The folder is created. A study of gradients in it is linked to, and links back. A `StorageError` leaves
    the report that was there as it was.
    """
    from gradcheck.report.flow import link_back

    target = Path(folder) / "index.html"
    write_atomically(
        target, render(document, link_back(folder), bench=(target.parent / "bench.html").is_file()).encode()
    )
    return target
