"""What holds for each answer and each request of the console, whatever page it is.

**No page of another site makes a browser change something here.** Two headers tell where a request comes from, and no
script can set them: `Origin`, sent with each POST, and `Sec-Fetch-Site`, sent to https and localhost. A POST must show
the console's own origin in one of them and a stranger's in neither; one that shows none is refused. So no token has to
be put into forms. The cookie is SameSite=Strict besides, and a GET changes nothing.

**No script but our own files runs**, whatever a tool's name or a server's answer holds: the policy below has no inline
code and no `eval`, and the templates escape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from percall_broker.model.errors import Forbidden

if TYPE_CHECKING:
    from percall_broker.asgi import Headers, Message

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Headers = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # not none: a browser would send `Origin: null` with our own forms
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
]
_SAFE = frozenset({"GET", "HEAD"})


def check_origin(scope: Message, origin: str) -> None:
    """Refuse a request that may change something and does not come from a page of `origin`. Raises Forbidden."""
    if scope["method"] in _SAFE:
        return
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    sites = [value.decode("latin-1") for name, value in scope["headers"] if name == b"sec-fetch-site"]
    own = origins == [origin] or (not origins and sites == ["same-origin"])
    if not own or any(site != "same-origin" for site in sites):
        raise Forbidden(
            "console.origin", "This request does not come from a page of the console.", f"Open {origin}/console/"
        )


def is_led_here(scope: Message) -> bool:
    """Whether a link of another site leads here. The browser then keeps the session's cookie to itself."""
    return scope["method"] == "GET" and (b"sec-fetch-site", b"cross-site") in scope["headers"]


def cookie_name(origin: str, of: str = "") -> str:
    """The cookie of a session. The prefix has the browser take it over https alone, and from this very host."""
    return ("__Host-percall" if origin.startswith("https:") else "percall-console") + of


def cookie(origin: str, token: str, seconds: int, of: str = "") -> str:
    """A `Set-Cookie` that no script reads and no other site's request carries; 0 seconds: forget it.

    `of` names another one than the session's.
    """
    secure = "; Secure" if origin.startswith("https:") else ""
    return f"{cookie_name(origin, of)}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def token_of(scope: Message, origin: str, of: str = "") -> str:
    """The session's token that a request shows, or another cookie's value; empty when it shows none, or two.

    Cookies of other programs at this host, and of the domain above it, arrive beside it: whatever they hold, they are
    only passed over (RFC 6265, section 5.4).
    """
    sent = ";".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie")
    pairs = [pair.partition("=") for pair in sent.split(";")]
    found = [value.strip() for name, _, value in pairs if name.strip() == cookie_name(origin, of)]
    return found[0] if len(found) == 1 and found[0].isprintable() else ""
