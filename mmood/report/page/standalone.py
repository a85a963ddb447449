"""A page in one file that asks nothing of any network, and in which no script but its own may run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import resources

from mmood import __version__
from mmood.report.page.html import Html, element, join


def standalone(title: str, body: Iterable[str], script: str, description: str = "") -> str:
    """Return a whole document in the style of the report.

    Args:
        title: of the page.
        body: its parts; the footer is added.
        script: the only script that its policy allows.
        description: what the page is, for search engines and readers of the source.
    """
    parts = [*body, _footer(), element("script", Html(script))]
    whole = element("html", [_head(title, script, description), element("body", parts)], {"lang": "en"})
    return f"<!DOCTYPE html>\n{whole}\n"


def asset(name: str, package: str = "mmood.report") -> str:
    """Return a file of the `assets` of a package."""
    return resources.files(package).joinpath(f"assets/{name}").read_text(encoding="utf-8")


def _head(title: str, script: str, description: str) -> Html:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing but this page's own script may run, whatever a name in the data says.
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    said: Sequence[Html] = [element("meta", (), {"name": "description", "content": description})] if description else []
    return element(
        "head",
        [
            element("meta", (), {"charset": "utf-8"}),
            element("meta", (), {"http-equiv": "Content-Security-Policy", "content": policy}),
            element("meta", (), {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            *said,
            element("title", title),
            element("style", Html(asset("page.css"))),
        ],
    )


def _footer() -> Html:
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return element(
        "footer", join([f"Made by mmood {__version__} on {made}. This file is self-contained: it loads nothing."])
    )
