"""What a page carries with it, so that it asks for nothing: style, scripts and their digests, figures, plotly.js.

plotly.js and the figures lie in the page compressed, as text that no name from outside can break out of, and are
unpacked by `templates/charts.js` when the first figure comes into view. The page's policy (CSP) allows these scripts by
their digests, and nothing else: no other script, no request.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def compressed(data: bytes) -> str:
    """gzip in base64, the same for the same bytes."""
    return base64.b64encode(gzip.compress(data, 4, mtime=0)).decode()


def pack(figures: Mapping[str, Any]) -> Markup:
    """Figures as compressed JSON; what isn't a finite number becomes null."""
    text = json.dumps(_finite(figures), separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return Markup(compressed(text.encode()))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


@functools.cache
def _plotly() -> tuple[str, str]:
    """plotly.js compressed, and its digest; found without importing the package.

    Nothing where it isn't installed: a run isn't lost for that, and its page says so in the charts' places.
    """
    spec = importlib.util.find_spec("plotly")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    path = next((p for place in places if (p := Path(place) / "package_data" / "plotly.min.js").is_file()), None)
    if path is None:
        return "", _digest(b"")
    source = path.read_bytes()
    return compressed(source), _digest(source)


def _digest(source: bytes) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source).digest()).decode()


@functools.cache
def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def parts(charts: bool = True) -> dict[str, Any]:
    """For the templates: `style`, `script`, the `policy` (CSP), and where it draws `drawing` and `plotly`."""
    script = _file("page.js")
    text, digests = {"style": _file("page.css"), "script": script}, [_digest(script.encode())]
    if charts:
        text["drawing"] = _file("charts.js")
        text["plotly"], digest = _plotly()
        digests += [_digest(text["drawing"].encode()), digest]
    allowed = " ".join(f"'{digest}'" for digest in digests)
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return {name: Markup(value) for name, value in text.items()} | {"policy": policy}


def environment(**filters: Any) -> jinja2.Environment:
    """Templates that escape every text of a run."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= filters
    return made
