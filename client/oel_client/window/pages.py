"""The page as HTML, from templates that escape every value: what games say may hold anything."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from oel_client.window.background import Stand
from oel_client.window.changes import Changes
from oel_client.window.facts import Facts
from oel_client.window.plots import gain_plot

_FOLDER = Path(__file__).with_name("templates")
STYLE = (_FOLDER / "page.css").read_text()
POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'",
        "img-src data:",
        "frame-src 'self'",
        "frame-ancestors 'self'",
        "form-action 'self'",
        "base-uri 'none'",
    )
)
"""No script at all, and this style sheet alone."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of the user's last word; shown once."""

    text: str
    failed: bool = False


def page(facts: Facts, changes: Changes | None, stand: Stand, said: Said | None) -> str:
    """The whole page.

    Args:
        changes: the comparison of this release with the one before it, as far as it was worked out.
        stand: how far it is.
        said: what came of the user's last word.
    """
    return _ENVIRONMENT.get_template("page.html").render(
        style=Markup(STYLE),
        status=facts.status,
        learnt=facts.learnt,
        written=facts.written,
        held=[one for one in facts.reports if one["state"] == "held"],
        decided=[one for one in facts.reports if one["state"] in ("waiting", "denied")],
        left=facts.left,
        gain=facts.gain,
        plot=gain_plot(facts.gain.rows) if facts.gain and facts.gain.rows else None,
        changes=changes,
        stand=stand,
        said=said,
    )


def progress(stand: Stand) -> str:
    """What stands in the frame while the releases are compared; the server makes it refresh."""
    return _ENVIRONMENT.get_template("progress.html").render(style=Markup(STYLE), stand=stand)


def percent(share: float) -> str:
    """Such as `43 %`; small ones keep a digit."""
    value = 100 * share
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def points(difference: float) -> str:
    """A difference of shares, such as `+4.1`: percentage points."""
    return f"{100 * difference:+.1f}"


def one_line(text: str) -> str:
    """Text with its white space folded."""
    return " ".join(text.split())


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"percent": percent, "points": points, "one_line": one_line}
    environment.filters |= filters
    return environment


_ENVIRONMENT = _environment()
