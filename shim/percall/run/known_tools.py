"""What the server says its tools are, held to what the broker has accepted: a changed text must not reach the model.

A list of which all is known passes at once. One with anything else in it waits for the broker's answer, once; without
an answer, what is unknown is left out, unless nothing is known of the server yet: a laptop's first sight is its own.
What was left out, or not reported, is asked about again when the broker has news.
"""

from __future__ import annotations

from percall import home, wire
from percall.errors import PercallError, UsageError, WireError, word
from percall.rpc import tools

TYPE_CHECKING = False  # `typing` itself costs 10 ms of each start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from percall.run.broker import Broker
    from percall.run.streams import Stderr

_MOST_REMEMBERED = 5000


class KnownTools:
    """The accepted definitions of one server, for one grant. `changed` is called when more may be shown than was."""

    def __init__(self, broker: Broker, grant: str, server: str, stderr: Stderr) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.waiting = 0
        self._broker = broker
        self._grant = grant
        self._server = server
        self._stderr = stderr
        self._remembered: home.SeenTools | None = None
        self._withheld: dict[str, Any] = {}

    def sift(self, listed: list[Any], shown: Callable[[list[Any]], None]) -> None:
        """Calls `shown` with the tools that the client may have, now or when the broker has answered."""
        digests = [_digest(tool) for tool in listed]
        known = self._known()
        unknown = {
            tool["name"]: tool
            for tool, digest in zip(listed, digests, strict=True)
            if digest is not None and (digest not in known.accepted or tool["name"] in known.withheld)
        }

        def show() -> None:
            accepted = self._known().accepted
            shown([tool for tool, digest in zip(listed, digests, strict=True) if digest in accepted])

        if not unknown:
            show()
            return
        # Each definition, not each name: of two that go by one name, the broker accepts neither.
        asked = [
            tool for tool, digest in zip(listed, digests, strict=True) if digest is not None and tool["name"] in unknown
        ]
        self._report(asked, show, lambda: shown(listed))

    def ask_again(self) -> None:
        """The broker has news: perhaps of what was withheld."""
        if self._withheld and not self.waiting:
            before = set(self._known().withheld)

            def asked() -> None:
                if before - set(self._known().withheld):
                    self.changed()

            self._report(list(self._withheld.values()), asked, lambda: None)

    def _report(self, asked: list[Any], then: Callable[[], None], unpinned: Callable[[], None]) -> None:
        """Tells the broker of definitions, and goes on; `unpinned` where it does not pin."""
        self.waiting += 1

        def done(body: bytes) -> None:
            self.waiting -= 1
            try:
                answer = wire.decode(wire.ToolsAnswer, wire.strict_json(body))
            except WireError as error:
                self._stderr.say(str(error))
            else:
                self._learn(asked, set(answer.withheld))
            then()

        def failed(error: PercallError) -> None:
            self.waiting -= 1
            if error.code == wire.CODE_PATH:  # a broker from before tools were pinned
                unpinned()
                return
            if self._known() == home.SeenTools():
                self._first_sight(asked)
            else:
                self._stderr.say(f"tools that the broker does not know are left out: {error} [{error.code}]")
            then()

        message = wire.join(wire.encode(wire.ToolsSeen(self._server)), wire.dump(asked))
        self._broker.request("POST", wire.PATH_TOOLS, message, done, failed)

    def _learn(self, asked: list[Any], withheld: set[str]) -> None:
        known = self._known()
        accepted = dict.fromkeys(known.accepted)
        kept = {name: None for name in known.withheld if name not in {tool["name"] for tool in asked}}
        for tool in asked:
            name, digest = tool["name"], _digest(tool) or ""
            if name in withheld or not digest:
                accepted.pop(digest, None)
                kept[name] = None
                self._withheld[name] = tool
            else:
                accepted[digest] = None
                self._withheld.pop(name, None)
        if withheld:
            names = ", ".join(sorted(ascii(name)[1:-1] for name in withheld))
            self._stderr.say(
                f"not shown, for the server changed them and nobody has accepted that yet: {names}. "
                f"An administrator may look: percall-broker server pin {word(self._server)} [pin.changed]"
            )
        self._remember(home.SeenTools(tuple(accepted)[-_MOST_REMEMBERED:], tuple(kept)))

    def _first_sight(self, asked: list[Any]) -> None:
        """The broker is away, and nothing is known: this is what will be reported, and what a change is seen by."""
        digests = tuple(digest for digest in map(_digest, asked) if digest is not None)
        self._withheld = {tool["name"]: tool for tool in asked}
        self._remember(home.SeenTools(digests, tuple(self._withheld)))

    def _remember(self, known: home.SeenTools) -> None:
        self._remembered = known
        try:
            home.save_seen_tools(self._grant, self._server, known)
        except UsageError as error:
            self._stderr.say(str(error))

    def _known(self) -> home.SeenTools:
        if self._remembered is None:
            try:
                self._remembered = home.seen_tools(self._grant, self._server)
            except UsageError as error:
                self._stderr.say(str(error))
                self._remembered = home.SeenTools()
        return self._remembered


def _digest(tool: Any) -> str | None:
    """A definition's digest; None for one that cannot be pinned."""
    from percall.proof import digest  # noqa: PLC0415 - loads libsodium, which a start need not wait for

    try:
        return digest(tools.canonical(tool).encode())
    except WireError:
        return None
