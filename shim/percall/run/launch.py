"""What a start needs to know before its child can run: which server, whether its launch is trusted, its environment.

The child is the first thing that is started; whatever can wait until it runs is imported later.
"""

from __future__ import annotations

import os

from percall import home
from percall.errors import LaunchError, word
from percall.run.child import Child, clean_environment

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from percall.egress.listener import Listener
    from percall.run.broker import Signer
    from percall.run.sender import Sender
    from percall.run.windows import Windows


class Egress:
    """The way out of a child whose key stays in the broker."""

    __slots__ = ("listener", "sender", "signer", "windows")

    def __init__(self, listener: Listener, signer: Signer, sender: Sender, windows: Windows) -> None:
        self.listener = listener
        self.signer = signer
        self.sender = sender
        self.windows = windows


class Launch:
    """One server, ready to be started, and started again should its grant be resumed.

    Raises UsageError when its launch is not trusted.
    """

    def __init__(self, found: home.Found, command: list[str] | None) -> None:
        self.found = found
        entry = found.granted.entry
        trust = home.require_trust(found.login.broker, entry)
        self._command = tuple(command or ()) or entry.command
        if not self._command:
            raise LaunchError(
                "launch.command",
                f"Server {entry.name!r} has no launch command.",
                f"Give one: percall run {word(entry.name)} -- COMMAND ARGUMENTS",
            )
        self._path = trust.path or os.environ.get("PATH", "")
        self.egress: Egress | None = None

    @property
    def may_start(self) -> bool:
        """Whether grant and server could be used when the broker last spoke of them."""
        return home.may_run(self.found)

    def prepare(self) -> None:
        """Open the way out, where the entry has a key: calls and listener share its windows, whenever the child starts.
        Raises LaunchError.
        """
        if self.found.granted.entry.delivery == "egress":
            self.egress = self._listening()

    def start(self) -> Child:
        """Start the child, once all is prepared. Raises LaunchError."""
        entry = self.found.granted.entry
        environment = clean_environment(entry.pass_environment, self._path)
        environment |= self.egress.listener.environment(environment) if self.egress else entry.environment
        return Child(self._command, environment, entry.name)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.egress is not None:
            self.egress.listener.close()
            self.egress.sender.close()

    def _listening(self) -> Egress:
        """The listener must have its port before the child can be told of it."""
        from percall import placeholder  # noqa: PLC0415 - only where the entry has a key
        from percall.egress.listener import Listener  # noqa: PLC0415
        from percall.http1 import Address  # noqa: PLC0415
        from percall.run.broker import Signer  # noqa: PLC0415
        from percall.run.sender import Sender  # noqa: PLC0415
        from percall.run.windows import Windows  # noqa: PLC0415

        login, entry = self.found.login, self.found.granted.entry
        signer, windows = Signer(Address.parse(login.broker, login.proxy)), Windows()
        sender = Sender(signer, login.ca_file or None)
        if why := placeholder.objection(entry.placeholder):
            raise LaunchError(
                "launch.placeholder",
                f"The broker's entry of {entry.name!r} has a placeholder that is refused here: {why}.",
                "Ask your administrator to mend the entry.",
            )
        listener = Listener(entry, placeholder.make(entry.placeholder), windows.current, windows.redeemed, sender)
        listener.start()
        return Egress(listener, signer, sender, windows)
