"""Debian's Chromium, headless, with passkeys of its own; whatever goes wrong in a page is kept for the test to see."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, CDPSession, Page

WHOLE = Path("/usr/bin/chromium")
_SHELL = Path("/usr/bin/chromium-headless-shell")
PROGRAM = _SHELL if _SHELL.exists() else WHOLE
"""The same engine without what is around a page, for half of the time."""
MISSING = "no browser: apt-get install --no-install-recommends chromium-headless-shell"
_ARGUMENTS = (
    "--no-sandbox",  # CI is root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Window:
    """One page in a profile of its own, with an authenticator that answers at once."""

    context: BrowserContext
    page: Page
    devtools: CDPSession
    authenticator: str
    troubles: list[str] = field(default_factory=list)
    """What a page must never have: errors, dialogs, refusals by the policy."""

    def passkeys(self) -> list[dict[str, Any]]:
        found = self.devtools.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator})
        return list(found["credentials"])


@contextlib.contextmanager
def chromium(program: Path = PROGRAM, **environment: str) -> Iterator[Browser]:
    """The browser. Its profile ends with it."""
    more: dict[str, Any] = {"env": environment} if environment else {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(program), args=list(_ARGUMENTS), **more)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def window(browser: Browser, **how: Any) -> Iterator[Window]:
    """A window of its own; `how` is what Playwright takes: viewport, color_scheme …"""
    context = browser.new_context(**how)
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    opened = Window(context, page, devtools, made["authenticatorId"])

    def dialog(one: Any) -> None:
        opened.troubles.append(f"dialog: {one.message}")
        one.dismiss()

    page.on("dialog", dialog)
    page.on("pageerror", lambda error: opened.troubles.append(f"error: {error}"))
    page.on("console", lambda one: opened.troubles.append(one.text) if one.type == "error" else None)
    try:
        yield opened
    finally:
        context.close()
