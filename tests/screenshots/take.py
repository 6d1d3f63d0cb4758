"""`make screenshots`: a broker with a day's calls, and a picture of each page of its console, for the docs.

Everything goes through the public doors: people are invited and enrol, servers come from recipes, each call is signed.
The day passes under libfaketime: the broker reads a file of how far back its clock is, and this process follows.
"""

from __future__ import annotations

import io
import os
import random
import re
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from PIL import Image

from harness.chromium import WHOLE, Window, chromium, window
from harness.signing import SigningLaptop
from harness.upstream import CANARY, Upstream
from integration.conftest import Served
from percall import wire
from percall.proof import DeviceKey
from percall_broker import recipes

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "images" / "console"
MOST_BYTES = 148_000
LINEAR = """
[server]
title = "Linear"
delivery = "relay"
url = "https://mcp.linear.app/mcp"
[[key.slot]]
header = "Authorization"
format = "Bearer {key}"
"""
POLICIES = {
    "10-everyone.cedar": """// What the grant permits is permitted.
@id("everyone")
permit (principal, action, resource);
""",
    "20-careful.cedar": """// Whoever changes something in GitHub says so to somebody first.
@id("ask-before-merging")
@ask("platform")
@reason("A merge to a release branch needs a second pair of eyes.")
permit (principal, action == Action::"tools/call", resource == Tool::"github/merge_pull_request");

@id("no-force")
@reason("History is never rewritten by an agent.")
forbid (principal, action == Action::"tools/call", resource == Tool::"github/push_files")
when { context.arguments.hasTag("force") };
""",
}
FONTS = """<?xml version="1.0"?><fontconfig><include>/etc/fonts/fonts.conf</include>
<match target="pattern"><test name="family"><string>DejaVu Sans</string></test>
<edit name="family" mode="assign" binding="strong"><string>Inter</string></edit></match>
<alias binding="strong"><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
<alias binding="strong"><family>ui-monospace</family><prefer><family>JetBrains Mono</family></prefer></alias>
</fontconfig>"""
"""A system's fonts, where Debian's packages of them are: the pages name the system's own."""
PEOPLE = {
    "alice": (("claude-code", "alice-mbp"), ("cursor", "alice-mbp")),
    "ben": (("vscode", "ben-thinkpad"),),
    "chiara": (("codex", "chiara-studio"), ("claude-code", "chiara-studio")),
    "dev": (("claude-code", "dev-xps"),),
    "emma": (("cursor", "emma-mbp"),),
}
TOOLS = {
    "github": (
        ("get_file_contents", 30, {"owner": "acme", "repo": "web", "path": "src/app.ts"}),
        ("search_issues", 22, {"q": "repo:acme/web is:open label:bug"}),
        ("list_commits", 12, {"owner": "acme", "repo": "web"}),
        ("get_issue", 10, {"owner": "acme", "repo": "web", "issue_number": 412}),
        ("create_issue", 3, {"owner": "acme", "repo": "web", "title": "Flaky checkout test"}),
        ("delete_repository", 1, {"owner": "acme", "repo": "web"}),
    ),
    "notion": (("API-post-search", 9, {"query": "on-call"}), ("API-retrieve-a-page", 7, {"page_id": "8f1c"})),
    "tavily": (
        ("tavily_search", 11, {"query": "postgres for share of skip locked"}),
        ("tavily_crawl", 1, {"url": "x"}),
    ),
    "linear": (("list_issues", 8, {"team": "Platform"}), ("create_issue", 2, {"title": "Rotate keys"})),
    "time": (("get_current_time", 6, {"timezone": "Europe/Lisbon"}),),
}
SCOPES = {
    "github": ["get_*", "list_*", "search_*", "create_issue", "merge_pull_request"],
    "notion": ["API-post-search", "API-retrieve-*"],
    "tavily": ["tavily_search"],
    "linear": ["list_*", "create_issue"],
    "time": ["*"],
}


class Clock:
    """The broker's clock and this process's, set back."""

    def __init__(self, folder: Path) -> None:
        library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
        if library is None:
            raise SystemExit("No clock to set: apt-get install libfaketime.")
        self._file = folder / "clock"
        self._real = time.time
        self._back = 0.0
        time.time = lambda: self._real() - self._back
        self.environment = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(self._file)}
        self.environment |= {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def set_back(self, minutes: float) -> None:
        """From now on it is so many minutes ago."""
        self._back = round(minutes * 60)
        new = self._file.with_suffix(".new")
        new.write_text(f"-{self._back:.0f}")
        new.replace(self._file)


class Day:
    """The broker and its people."""

    def __init__(self, served: Served, upstream: Upstream, clock: Clock) -> None:
        self.served, self.upstream, self.clock = served, upstream, clock
        self.chance = random.Random(7)  # noqa: S311 - the same pictures each time
        self.laptops: list[tuple[str, SigningLaptop]] = []
        self.first: dict[str, SigningLaptop] = {}

    def set_up(self) -> None:
        """Forty days ago: servers, people, policies."""
        admin = self.served.administrator
        connect = {f"https://{host}": self.upstream.url for host in ("api.github.com", "api.notion.com")}
        for name in ("github", "notion", "tavily", "time"):
            entry = {"name": name, "entry": recipes.text_of(name), "secret": "" if name == "time" else CANARY}
            stand_ins = {host: url for host, url in connect.items() if name in host}
            admin.administer("POST", "/v1/admin/servers", {**entry, "connect": stand_ins})
        admin.administer("POST", "/v1/admin/servers", {"name": "linear", "entry": LINEAR, "secret": CANARY})
        for person, agents in PEOPLE.items():
            device = ""
            for agent, name in agents:
                servers = {
                    server: {"tools": tools}
                    for server, tools in SCOPES.items()
                    if server in {"github", "time"} or self.chance.random() < 0.6
                }
                form: dict[str, Any] = {"person": person, "servers": servers, "agent": agent, "expires_at": 0}
                invite = admin.administer("POST", "/v1/admin/grants", form).get("invite")
                if invite:
                    laptop = SigningLaptop(self.served.url)
                    laptop.finish(laptop.enrol(invite, agent=agent, device=name))
                    self.laptops += [(server, laptop) for server in servers]
                    self.first.setdefault(person, laptop)
                    device = name
                else:
                    first = self.laptops[-1][1]
                    key = DeviceKey(os.urandom(32))
                    for one in first.claim(agent, key=key).json["enrolled"]:
                        more = SigningLaptop(self.served.url, key, one["token"])
                        self.laptops += [(server, more) for server in servers]
            assert device
        admin.administer("POST", "/v1/admin/people/ada/invite")
        for person, agent in (("farid", "claude-code"), ("emma", "windsurf")):  # who never use theirs
            form = {"person": person, "servers": {"github": {"tools": ["get_*"]}}, "agent": agent, "expires_at": 0}
            admin.administer("POST", "/v1/admin/grants", form)
        admin.administer("POST", "/v1/admin/groups/platform/join", {"people": ["alice", "chiara", "ada"]})
        for files, message in (
            ({"10-everyone.cedar": POLICIES["10-everyone.cedar"]}, "As it was, in words of our own"),
            (POLICIES, "Merges are asked for; no force"),
        ):
            admin.administer("POST", "/v1/admin/policies", {"files": files, "message": message})

    def calls(self) -> None:
        """A day of them, busiest when people work."""
        minutes = 24 * 60 - 40.0
        while minutes > 15:
            self.clock.set_back(minutes)
            hour = (24 - minutes / 60 + 20) % 24
            busy = 1.0 if 8 <= hour <= 18 else 0.12
            self.one()
            minutes -= self.chance.expovariate(1 / 1.3) / busy
        for minutes in (14, 9, 6, 4.5, 3, 2, 1.6, 1.1, 0.7, 0.4, 0.2, 0.1):
            self.clock.set_back(minutes)
            if minutes == 6:
                self.questions()
            self.one()
        self.clock.set_back(0)

    def questions(self) -> None:
        """What waits for somebody: two calls, and a request for a grant."""
        merge = {"owner": "acme", "repo": "web", "pull_number": 1873, "merge_method": "squash"}
        for person, more in (("alice", {}), ("chiara", {"commit_title": "Ship the new checkout"})):
            self.of(person).ask("github", "tools/call", {"name": "merge_pull_request", "arguments": {**merge, **more}})
        wanted = wire.GrantRequest("github", ("create_branch", "push_files"), 7200, "Hotfix for the checkout, #1881")
        self.of("dev").send("POST", wire.PATH_APPROVALS, wire.dump(wire.encode(wanted)))

    def of(self, person: str) -> SigningLaptop:
        """A person's first laptop that has GitHub."""
        return self.first[person]

    def one(self) -> str:
        """One call, from request to outcome."""
        server, laptop = self.chance.choice(self.laptops)
        tools = TOOLS[server]
        tool, _, arguments = self.chance.choices(tools, [weight for _, weight, _ in tools])[0]
        if server == "linear":  # its calls are relayed; asked for here, they would be another delivery's
            server, (tool, _, arguments) = "time", TOOLS["time"][0]
            if "time" not in {name for name, other in self.laptops if other is laptop}:
                return ""
        answer = laptop.ask(server, "tools/call", {"name": tool, "arguments": arguments})
        told = answer.json
        if told["decision"] != "permit":
            return ""
        call, outcome = str(told["call"]), "done" if self.chance.random() < 0.96 else "failed"
        if server == "github" and tool.startswith("get_"):
            window_of_call = wire.Window(call, told["credential"])
            laptop.request("github", "https://api.github.com/repos/acme/web/contents/src/app.ts", window_of_call)
        took = int(self.chance.lognormvariate(5.1, 0.55))
        settled = wire.Settlements((wire.Settlement(call, outcome, took),))
        laptop.send("POST", wire.PATH_SETTLEMENTS, wire.dump(wire.encode(settled)))
        return call


def save(picture: bytes, name: str) -> None:
    """As it is; with fewer colours where it would be large."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    path = PICTURES / f"{name}.png"
    image.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        image.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=8, dither=Image.Dither.NONE).save(
            path, optimize=True
        )


def take(opened: Window, url: str, name: str, *, full: bool = False, then: str = "") -> None:
    """A picture of a page, when it is at rest."""
    opened.page.goto(url)
    if then:
        opened.page.click(then)
        opened.page.wait_for_selector("pre.arguments, .verdict")
    opened.page.mouse.move(0, 0)
    opened.page.wait_for_load_state("load")
    save(opened.page.screenshot(full_page=full, animations="disabled"), name)


def main() -> None:
    """All of them."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, Upstream(CANARY) as upstream:
        folder = Path(name)
        clock = Clock(folder)
        clock.set_back(40 * 24 * 60)
        with Served(folder / "broker", extra=clock.environment) as served:
            link = lived(Day(served, upstream, clock))
            fonts = folder / "fonts.conf"
            fonts.write_text(FONTS)
            pictures(link, link.split("/sign-in")[0], served, fonts)


def lived(day: Day) -> str:
    """Has the day pass; a link into the console."""
    day.set_up()
    ada = SigningLaptop.of_person(day.served.url, day.served.local_invite("ada"))
    day.calls()
    return str(ada.administer("POST", "/v1/console/enrolment")["link"])


def pictures(link: str, console: str, served: Served, fonts: Path) -> None:
    """The pages, in a browser with the real clock."""
    rows = served.administrator.administer("GET", "/v1/admin/calls?limit=200&server=github&decision=permit")
    call = next(row["call"] for row in rows if row["tool"] == "get_file_contents" and row["outcome"])
    environment = {**os.environ, "FONTCONFIG_FILE": str(fonts)}
    wide = {"viewport": {"width": 1240, "height": 820}}
    with chromium(WHOLE, **environment) as browser:
        with window(browser, **wide) as opened:
            page = opened.page
            page.goto(link)
            page.click("#by-link button")
            page.wait_for_url("**/passkeys")
            page.fill("input[name=name]", "Work laptop")
            page.keyboard.press("Enter")
            page.wait_for_selector(".notice.good")
            cookies = opened.context.cookies()
            for name, path in (
                ("overview", "/"),
                ("calls", "/calls"),
                ("approvals", "/approvals"),
                ("people", "/people"),
                ("person", "/people/alice"),
                ("servers", "/servers"),
                ("server", "/servers/github"),
                ("policies", "/policies"),
                ("health", "/health"),
                ("passkeys", "/passkeys"),
            ):
                take(opened, console + path, name)
            take(opened, f"{console}/calls/{call}", "call", then="text=Show the arguments")
            waiting = opened.page.request.get(console + "/approvals").text()
            approval = re.findall(r"/console/approvals/(ap_[^\"]+)", waiting)[1]
            take(opened, f"{console}/approvals/{approval}", "approval", then="text=Show the arguments")
            assert not opened.troubles, opened.troubles
        for name, path, how in (
            ("overview-dark", "/", {**wide, "color_scheme": "dark"}),
            ("calls-phone", "/calls", {"viewport": {"width": 390, "height": 820}, "device_scale_factor": 2}),
            (
                "approval-phone",
                f"/approvals/{approval}",
                {"viewport": {"width": 390, "height": 820}, "device_scale_factor": 2},
            ),
            ("person-phone", "/people/alice", {"viewport": {"width": 390, "height": 820}, "device_scale_factor": 2}),
        ):
            with window(browser, **how) as opened:
                opened.context.add_cookies([cast("Any", one) for one in cookies])
                take(opened, console + path, name, then="text=Show the arguments" if "approvals/" in path else "")
        with window(browser, viewport={"width": 900, "height": 640}) as opened:
            take(opened, console + "/sign-in", "sign-in")


if __name__ == "__main__":
    main()
