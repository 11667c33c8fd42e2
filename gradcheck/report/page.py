"""A document as one HTML page, and the page as a file."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import jinja2

from gradcheck.document import Document
from gradcheck.files import write_atomically
from gradcheck.report.model import page

_HERE = Path(__file__).parent


def render(document: Document) -> str:
    """Return the report as one HTML page that loads nothing from outside and runs no script."""
    style = (_HERE / "templates" / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html")
    return template.render(page=page(document), style=style, style_hash=f"sha256-{digest}")


def write(document: Document, folder: str | os.PathLike[str]) -> Path:
    """Write the report to `folder`/index.html, all or nothing, and return its path.

    The folder is created. A `StorageError` leaves the report that was there as it was.
    """
    target = Path(folder) / "index.html"
    write_atomically(target, render(document).encode())
    return target
