"""Templates, and how they print what they are given. Everything is escaped, and hidden characters are named."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from percall_broker.console import plots
from percall_broker.model import marking
from percall_broker.model.counting import counted, lasting
from percall_broker.model.moments import in_full

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
FILES: dict[str, tuple[str, bytes]] = {
    path.name: (_TYPES[path.suffix], path.read_bytes()) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES
}
"""What the pages load, by its name: the type, and the bytes."""
_VERSIONS = {name: sha256(content).hexdigest()[:12] for name, (_, content) in FILES.items()}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def page(name: str, /, **context: Any) -> str:
    """A page, or a part of one. A name that a template uses and is not given is an error, never empty."""
    return _environment.get_template(name).render(now=time.time(), **context)


def file(name: str) -> str:
    """The path of a file of ours, which changes with its content, so that browsers may keep it."""
    return f"/console/static/{name}?v={_VERSIONS[name]}"


def seen(text: str) -> Markup:
    """A text as it is, line by line, each hidden character a labelled mark."""
    pieces = (
        Markup('<mark class="hidden-character" title="{}">{}</mark>').format(run.text, run.text.split()[0])
        if run.hidden
        else escape(run.text)
        for run in marking.runs(text)
    )
    return Markup("").join(pieces)


def ago(seconds: float) -> str:
    """How long ago, in the largest unit; `never` for 0."""
    if not seconds:
        return "never"
    passed = time.time() - seconds
    if passed < 0:
        return _span(-passed, "in {}")
    return "just now" if passed < 5 else _span(passed, "{} ago")  # noqa: PLR2004 - who would count


def _span(passed: float, form: str) -> str:
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if passed >= unit:
            return form.format(f"{int(passed // unit)} {name}")
    return form.format(f"{int(passed)} s")


def age(seconds: float) -> str:
    """A span of time since then, without a direction: `34 d`."""
    return _span(max(0.0, time.time() - seconds), "{}")


def moment(seconds: float) -> str:
    """Date and time, in UTC; nothing for 0."""
    return in_full(seconds) if seconds else ""


def milliseconds(value: float) -> str:
    """A duration for people."""
    if value < 1000:  # noqa: PLR2004 - a second
        return f"{value:.0f} ms"
    return f"{value / 1000:.1f} s" if value < 60_000 else f"{value / 60_000:.1f} min"  # noqa: PLR2004 - a minute


def number(value: float) -> Markup:
    """A count, with thin spaces between thousands, which are ours: in a text they would be named."""
    return Markup("\u2009").join(f"{value:,}".split(","))


def _shown(value: Any) -> Any:
    """What an expression of a template prints: text with its hidden characters named, unless it is markup of ours."""
    return marking.visible_lines(value) if type(value) is str else value


_environment = Environment(
    loader=PackageLoader("percall_broker.console"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(ago=ago, age=age, moment=moment, milliseconds=milliseconds, number=number, seen=seen)
_environment.filters.update(counted=counted, lasting=lasting)
_environment.globals.update(file=file, plots=plots)
