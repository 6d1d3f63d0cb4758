"""The console in a real browser: real passkeys, the keyboard alone, and pages whose text is hostile."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from harness.chromium import MISSING, PROGRAM, Window, chromium, window
from harness.processes import Broker, Laptop, command
from harness.signing import SigningLaptop
from percall import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Route

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason=MISSING)

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}\u202e\u200b'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def ada(broker: Broker) -> SigningLaptop:
    return administrator(broker, "ada")


def administrator(broker: Broker, name: str) -> SigningLaptop:
    """One with a passphrase, which the tests type for them."""
    made = command("percall-broker", "invite", name, "--json", environment=broker.environment)
    return SigningLaptop.of_person(broker.url, str(json.loads(made.stdout)["invite"]))


@pytest.fixture
def opened(browser: Browser, ada: SigningLaptop) -> Iterator[Window]:
    """Ada's window, signed in, with a passkey that she has just made."""
    with window(browser) as one:
        enrol(one, ada)
        yield one
        assert one.troubles == []


def enrol(one: Window, laptop: SigningLaptop) -> None:
    one.page.goto(str(laptop.administer("POST", "/v1/console/enrolment")["link"]))
    one.page.get_by_role("button", name="Sign in with this link").click()
    one.page.get_by_label("Name").fill("A test's passkey")
    one.page.get_by_role("button", name="Make a passkey").click()
    one.page.get_by_text("is yours").wait_for()
    assert len(one.passkeys()) == 1


def console(one: Window, path: str) -> str:
    return one.page.url.split("/console/")[0] + "/console/" + path


def granted(broker: Broker, person: str, *tools: str) -> tuple[SigningLaptop, str]:
    administrator = broker.administrator
    done = administrator.administer(
        "grant", "create", person, "--server", "keyed", "--tools", ",".join(tools), "--json"
    )
    made = json.loads(done.stdout)
    return SigningLaptop.enrolled(broker.url, made["invite"]), made["grant"]


@pytest.fixture(scope="module")
def asking(broker: Broker, ada: SigningLaptop) -> None:
    """From now on `create_item`, and what else is called so, is asked about, and ada is asked."""
    assert ada.token
    rules = broker.folder / "rules"
    rules.mkdir(exist_ok=True)
    (rules / "rules.cedar").write_text(
        '@id("all") permit(principal, action, resource)'
        ' unless { resource is Tool && resource.name like "create_item*" };'
        '@id("ask") @ask("leads") permit(principal, action, resource)'
        ' when { resource is Tool && resource.name like "create_item*" };'
    )
    # In this order: no automation makes an approver.
    broker.administrator.administer("group", "add", "leads", "ada")
    broker.administrator.administer("policy", "apply", str(rules))


def lost(route: Route) -> None:
    route.fetch()
    route.abort("connectionreset")


def of_a_proxy(route: Route) -> None:
    route.fetch()
    route.fulfill(status=504, content_type="text/html", body="<h1>504 Gateway Time-out</h1>")


def of_a_proxy_in_json(route: Route) -> None:
    route.fetch()
    route.fulfill(status=200, content_type="application/json", body="{}")


def confirm(one: Window, button: str) -> None:
    """Presses it, and says yes to what it says."""
    one.page.get_by_role("button", name=button).click()
    one.page.get_by_role("dialog").get_by_role("button").last.click()


def test_a_grant_is_revoked_once_its_words_are_confirmed_and_the_next_call_is_refused(
    broker: Broker, opened: Window, person: str
) -> None:
    laptop, grant = granted(broker, person, "get_*")
    assert laptop.call("keyed", "get_item")["decision"] == "permit"
    opened.page.goto(console(opened, f"people/{person}"))
    press, words = opened.page.keyboard.press, opened.page.get_by_role("dialog")
    asking = opened.page.locator("form[data-busy]")
    focused = "document.activeElement.textContent"
    opened.page.get_by_role("button", name="Revoke the grant of default").press("Enter")
    words.get_by_text(f"The grant of {person} for default on a test's laptop is revoked for good").wait_for()
    assert opened.page.evaluate(focused) == "Cancel", "who presses twice has done nothing"
    press("Escape")
    words.wait_for(state="hidden")
    asking.wait_for(state="detached")  # until then, another press of the same button does nothing
    assert opened.page.evaluate(focused) == "Revoke", "where it was"
    press("Enter")
    press("Enter")
    asking.wait_for(state="detached")
    assert broker.rows("grant", "show", grant)[0]["state"] == "active"
    press("Enter")
    press("Tab")
    press("Enter")
    opened.page.get_by_role("status").get_by_text("is revoked for good").wait_for()
    assert laptop.call("keyed", "get_item")["refusal"]["code"] == "grant.revoked"
    opened.page.get_by_text("revoked", exact=True).first.wait_for()
    (row,) = broker.rows("log", "changes", "--limit", "1")
    assert (row["person"], row["action"], row["presence"]) == ("ada", "grant.revoked", "passkey")


def test_the_commands_link_signs_in_once_to_read_and_nothing_leaves_it_in_the_address(
    broker: Broker, browser: Browser, tmp_path: Path
) -> None:
    made = command("percall-broker", "invite", "reader", "--json", environment=broker.environment)
    laptop = Laptop(tmp_path / "reader", dict(broker.extra))
    laptop.login(broker.url, str(json.loads(made.stdout)["invite"]))  # without a terminal, so without a passphrase
    link = laptop.administer("console").stdout.split()[-1]
    refused = laptop.administer("console", "--enrol", check=False)
    assert refused.returncode != 0
    assert "has set no passphrase" in refused.stderr
    with window(browser) as one:
        one.page.goto(link)
        one.page.get_by_role("button", name="Sign in with this link").wait_for()
        assert "#" not in one.page.url
        one.page.get_by_role("button", name="Sign in with this link").click()
        one.page.get_by_role("heading", name="Overview").wait_for()
        one.page.get_by_text("reading only").wait_for()
        assert one.troubles == []
    with window(browser) as another:
        another.page.goto(link)
        another.page.get_by_role("button", name="Sign in with this link").click()
        another.page.get_by_text("This link was used").wait_for()


def test_signing_in_and_suspending_somebody_needs_no_mouse(
    broker: Broker, browser: Browser, ada: SigningLaptop, person: str
) -> None:
    laptop, _ = granted(broker, person, "get_*")
    with window(browser) as one:
        press = one.page.keyboard.press
        one.page.goto(str(ada.administer("POST", "/v1/console/enrolment")["link"]))
        press("Enter")  # the button has the focus
        one.page.wait_for_url("**/passkeys")
        one.page.keyboard.type("By keyboard")
        press("Enter")
        one.page.get_by_text("is yours").wait_for()
        one.page.goto(console(one, f"people/{person}"))
        press("Tab")
        assert one.page.evaluate("document.activeElement.textContent") == "Skip to the content"
        press("Enter")
        for _ in range(20):
            press("Tab")
            if one.page.evaluate("document.activeElement.textContent.trim()") == "Suspend":
                break
        assert one.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", "it can be seen"
        press("Enter")
        one.page.get_by_role("status").get_by_text("is suspended").wait_for()
        assert one.troubles == []
    assert laptop.call("keyed", "get_item")["decision"] == "forbid"


def test_calls_appear_as_they_happen_and_nothing_in_them_runs(broker: Broker, opened: Window, person: str) -> None:
    laptop, _ = granted(broker, person, "*")
    opened.page.goto(console(opened, f"calls?person={person}"))
    opened.page.get_by_text("No call fits").wait_for()
    opened.page.get_by_text("Live").wait_for()
    call = laptop.call("keyed", HOSTILE, {"note": HOSTILE, "</pre><script>alert(3)</script>": 1})["call"]
    opened.page.get_by_text("onerror=alert(1)").first.wait_for()
    assert "⟨U+202E⟩" in opened.page.inner_text("td.tool")
    opened.page.click("td.when a")
    laptop.settle(call)
    opened.page.get_by_text("The tool answered.").wait_for()
    opened.page.get_by_role("button", name="Show the arguments").click()
    shown = opened.page.inner_text("pre.arguments")
    assert "<script>alert(2)</script>{{7*7}}U+202EU+200B" in shown
    assert "</pre><script>alert(3)</script>" in shown
    assert opened.page.locator("img, main script").count() == 0
    for path in ("", f"people/{person}", "servers", "health"):
        opened.page.goto(console(opened, path))
        assert opened.page.locator("img, main script").count() == 0


@pytest.mark.usefixtures("asking")
def test_a_waiting_call_is_allowed_by_keyboard_and_its_arguments_are_only_text(
    broker: Broker, opened: Window, person: str
) -> None:
    laptop, _ = granted(broker, person, "*")
    opened.page.goto(console(opened, "approvals"))
    opened.page.get_by_text("Nothing waits").wait_for()
    assert laptop.call("keyed", "create_item", {"note": HOSTILE})["decision"] == "ask"
    opened.page.get_by_text("yours to answer").wait_for()
    assert opened.page.get_by_role("link", name="Approvals").inner_text().split() == [
        "Approvals",
        "1",
        "waiting",
        "for",
        "you",
    ]
    press = opened.page.keyboard.press

    def tab_to(words: str) -> None:
        for _ in range(40):
            press("Tab")
            if opened.page.evaluate("document.activeElement.textContent.trim()").startswith(words):
                return
        raise AssertionError(f"the keyboard does not reach {words!r}")

    opened.page.evaluate("document.getElementById('main').focus()")
    tab_to("keyed")
    press("Enter")
    opened.page.get_by_role("button", name="Show the arguments").wait_for()
    assert opened.page.get_by_role("button", name="Allow once").count() == 0
    opened.page.evaluate("document.getElementById('main').focus()")
    tab_to("Show the arguments")
    press("Enter")
    opened.page.get_by_role("button", name="Allow once").wait_for()
    assert "<script>alert(2)</script>{{7*7}}U+202EU+200B" in opened.page.inner_text("pre.arguments >> nth=0")
    assert opened.page.locator("img, main script").count() == 0
    opened.page.evaluate("document.getElementById('main').focus()")
    tab_to("Allow once")
    press("Enter")
    opened.page.get_by_role("status").get_by_text("is allowed").wait_for()
    assert laptop.call("keyed", "create_item", {"note": HOSTILE})["decision"] == "permit"
    assert laptop.call("keyed", "create_item", {"note": "another"})["decision"] == "ask"


@pytest.mark.usefixtures("asking")
def test_what_waits_is_looked_at_anew_as_time_passes(broker: Broker, opened: Window, person: str) -> None:
    """Nothing tells that a question has expired: it would stay somebody's to answer."""
    laptop, _ = granted(broker, person, "*")
    approval = laptop.call("keyed", "create_item", {"note": person})["approval"]["id"]
    opened.page.clock.install()
    for path, parts in (("approvals", ("rows", "count")), (f"approvals/{approval}", (f"{approval}/state", "count"))):
        opened.page.goto(console(opened, path))
        opened.page.wait_for_load_state("networkidle")
        with contextlib.ExitStack() as looks:
            for part in parts:
                looks.enter_context(opened.page.expect_response(f"**/approvals/{part}?*live"))
            opened.page.clock.fast_forward(20_000)


def test_filters_apply_when_they_are_all_chosen_and_going_back_shows_those_that_applied(opened: Window) -> None:
    """With a page at each arrow key, nobody would get past the first choice by keyboard."""
    opened.page.goto(console(opened, "calls"))
    decision, tool = opened.page.get_by_label("Decision"), opened.page.get_by_label("Tool")
    decision.focus()
    for _ in range(3):
        opened.page.keyboard.press("ArrowDown")
    tool.fill("get_item")
    tool.press("Enter")
    opened.page.wait_for_url("**/calls?*tool=get_item*decision=forbid*")
    assert decision.input_value() == "forbid"
    opened.page.go_back()
    opened.page.get_by_role("link", name="Clear").wait_for(state="detached")
    assert (decision.input_value(), tool.input_value()) == ("", "")


@pytest.mark.parametrize("answer", [lost, of_a_proxy])
def test_a_form_that_nobody_answers_says_so_and_one_that_is_pressed_twice_asks_once(
    broker: Broker, opened: Window, person: str, answer: Callable[[Route], None]
) -> None:
    laptop, _ = granted(broker, person, "*")
    call = laptop.call("keyed", "get_item")["call"]
    opened.page.goto(console(opened, f"calls/{call}"))
    opened.page.route("**/arguments", answer, times=1)
    button = opened.page.get_by_role("button", name="Show the arguments")
    button.click()
    opened.page.get_by_role("status").get_by_text("The broker does not answer").wait_for()
    assert opened.page.get_by_text("Gateway").count() == 0, "what a proxy says is none of the page"
    asked: list[str] = []
    opened.page.on("request", lambda request: asked.append(request.url))
    button.dblclick()
    opened.page.get_by_text("That you read them is recorded").wait_for()
    assert len([url for url in asked if url.endswith("/arguments")]) == 1
    opened.troubles.clear()  # the browser lists what it had no answer to


def test_a_form_that_is_pressed_before_the_script_is_there_says_so_and_signing_out_needs_none(
    broker: Broker, browser: Browser, opened: Window, person: str
) -> None:
    _, grant = granted(broker, person, "get_*")
    page, people, sign_in = (console(opened, path) for path in (f"people/{person}", "people", "sign-in"))
    with window(browser, storage_state=opened.context.storage_state(), java_script_enabled=False) as one:
        one.page.goto(page)
        assert "allow scripts of this address" in one.page.content()
        one.page.get_by_role("button", name="Revoke the grant of default").click()
        one.page.get_by_text("script had not been loaded yet").wait_for()
        assert broker.rows("grant", "show", grant)[0]["state"] == "active"
        opened.page.goto("about:blank")  # soon her session is over there, too
        one.page.goto(people)
        one.page.get_by_role("button", name="Sign out").click()
        one.page.get_by_role("heading", name="Sign in").wait_for()
        assert one.page.url == sign_in
        one.page.goto(people)
        one.page.get_by_role("heading", name="Sign in").wait_for()


def test_letters_that_run_the_other_way_reorder_nothing_beside_them(
    broker: Broker, opened: Window, person: str
) -> None:
    """Such letters are text like any other, and marked nowhere; around a neutral sign they would turn what follows."""
    laptop, _ = granted(broker, person, "*")
    call = laptop.call("keyed", "שלום - 1")["call"]
    for path, at in ((f"calls?person={person}", "td.tool"), (f"calls/{call}", "h1.tool")):
        opened.page.goto(console(opened, path))
        name, server = opened.page.locator(f"{at} bdi"), opened.page.locator(f"{at} small")
        name.get_by_text("שלום - 1").wait_for()
        left, right = server.bounding_box(), name.bounding_box()
        assert left is not None
        assert right is not None
        assert left["x"] + left["width"] <= right["x"] + 1


@pytest.mark.usefixtures("asking")
def test_the_ring_around_what_has_the_focus_is_seen_whole(broker: Broker, opened: Window, person: str) -> None:
    """Also where what scrolls cuts off what is outside of it."""
    granted(broker, person, "*")[0].call("keyed", "create_item", {"note": person})
    for path, within in (("approvals", ".question"), ("policies", ".file summary"), ("policies", ".file pre")):
        opened.page.goto(console(opened, path))
        opened.page.locator(within).first.focus()
        opened.page.keyboard.press("Shift")  # what the keyboard has focused has a ring
        assert opened.page.evaluate(
            """() => {
                const { outlineStyle, outlineOffset, outlineWidth } = getComputedStyle(document.activeElement);
                return outlineStyle !== "none" && parseFloat(outlineOffset) + parseFloat(outlineWidth) <= 0;
            }"""
        )


def seen(one: Window, state: str) -> None:
    """As when another tab comes before this one, or goes."""
    one.page.evaluate(
        """state => {
            Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def test_a_page_behind_others_holds_no_connection_and_misses_nothing(
    broker: Broker, opened: Window, person: str
) -> None:
    """A browser has six to one host: with a stream on each, the seventh page would not load, the brake's neither."""
    laptop, _ = granted(broker, person, "*")
    opened.page.goto(console(opened, f"calls?person={person}"))
    opened.page.get_by_text("Live").wait_for()
    laptop.call("keyed", "get_first")
    opened.page.get_by_text("get_first").wait_for()
    with opened.page.expect_event("requestfailed", lambda request: "/console/events" in request.url):
        seen(opened, "hidden")
    laptop.call("keyed", "get_second")
    seen(opened, "visible")
    opened.page.get_by_text("get_second").wait_for()


@pytest.mark.parametrize("status", [429, 502])
def test_a_page_whose_stream_was_refused_asks_again(broker: Broker, opened: Window, person: str, status: int) -> None:
    """As by a proxy, while the broker starts anew."""
    laptop, _ = granted(broker, person, "*")
    opened.page.route("**/console/events*", lambda route: route.fulfill(status=status), times=2)
    opened.page.goto(console(opened, f"calls?person={person}"))
    opened.page.locator(".live.off").wait_for()
    opened.page.locator(".live:not(.off)").wait_for()
    laptop.call("keyed", "get_item")
    opened.page.get_by_text("get_item").wait_for()
    opened.troubles.clear()  # the browser lists the refusals


def test_what_is_new_takes_neither_the_focus_nor_what_is_open_nor_a_click_under_way(
    broker: Broker, opened: Window, person: str
) -> None:
    laptop, _ = granted(broker, person, "*")
    call = laptop.call("keyed", "get_first")["call"]
    opened.page.goto(console(opened, f"calls?person={person}"))
    row = opened.page.locator("tr", has_text="get_first")
    row.get_by_role("link").focus()
    pressed = row.get_by_role("link").element_handle()
    opened.page.get_by_text("Live").wait_for()
    laptop.call("keyed", "get_second")
    opened.page.get_by_text("get_second").wait_for()
    assert opened.page.evaluate("document.activeElement.closest('tr').textContent.includes('get_first')")
    assert pressed is not None
    assert pressed.evaluate("link => link.isConnected"), "a click is one where it begins and ends on the same element"
    opened.page.goto(console(opened, f"calls/{call}"))
    details = opened.page.get_by_text("Details").first
    details.click()
    opened.page.get_by_text("grant.tool").first.wait_for()
    laptop.settle(call)
    opened.page.get_by_text("The tool answered.").wait_for()
    assert opened.page.evaluate("document.activeElement.textContent") == "Details"
    opened.page.get_by_text("device key").wait_for()


def test_the_brake_is_shown_on_every_open_page_as_it_is(broker: Broker, ada: SigningLaptop, opened: Window) -> None:
    """And its button does what it says, whoever pulls it meanwhile; a reason that is typed stays until then."""
    opened.page.goto(console(opened, "health"))
    reason = opened.page.get_by_label("Why")
    reason.fill("a drill")
    changes = opened.page.locator("tbody")
    before = changes.inner_text()
    broker.administrator.administer("server", "suspend", "keyed")
    broker.administrator.administer("server", "resume", "keyed")
    expect(changes).not_to_have_text(before, use_inner_text=True)
    assert reason.input_value() == "a drill"
    opened.page.get_by_role("button", name="Freeze everything").click()
    words = opened.page.get_by_role("dialog")
    words.get_by_text("Every call of everybody is refused").wait_for()
    broker.administrator.administer("freeze", "--all", "--reason", "elsewhere")
    opened.page.get_by_role("alert").get_by_text("elsewhere").wait_for()
    opened.page.get_by_text("Lift the brake").wait_for()
    words.get_by_role("button").last.click()
    opened.page.get_by_role("status").get_by_text("This changed since the page was loaded").wait_for()
    opened.troubles.clear()  # the browser lists the 409
    opened.page.goto(console(opened, "people"))
    opened.page.get_by_role("alert").get_by_text("elsewhere").wait_for()
    ada.administer("POST", "/v1/admin/freezes/lift", {"kind": "all", "name": ""})
    opened.page.get_by_role("alert").wait_for(state="detached")


@pytest.mark.usefixtures("asking")
@pytest.mark.parametrize("width", [1240, 640, 320])
def test_no_page_is_wider_than_its_screen_whatever_people_and_tools_are_called(
    broker: Broker, browser: Browser, opened: Window, width: int
) -> None:
    name, tool = f"n{width}".ljust(56, "o"), "create_item" + "m" * 112
    laptop, _ = granted(broker, name, "*", tool)
    approval = laptop.call("keyed", tool, {"note": "x" * 300})["approval"]["id"]
    wanted = wire.GrantRequest("keyed", (tool,), 3600, "w" * 180)
    assert laptop.send("POST", wire.PATH_APPROVALS, wire.dump(wire.encode(wanted))).status == 200
    paths = ["", "calls", "approvals", f"approvals/{approval}", "people", f"people/{name}"]
    paths += ["servers", "servers/keyed", "policies", "health", "passkeys"]
    with window(browser, storage_state=opened.context.storage_state(), viewport={"width": width, "height": 800}) as one:
        for path in paths:
            one.page.goto(console(opened, path))
            if path.startswith("approvals/"):
                one.page.get_by_role("button", name="Show the arguments").click()
                one.page.get_by_role("button", name="Never allow").wait_for()
            assert one.page.evaluate("document.documentElement.scrollWidth") == width, path
            for page in one.page.get_by_role("navigation", name="Pages").get_by_role("link").all():
                box = page.bounding_box()
                assert box is not None, path
                assert box["x"] + box["width"] <= width, (path, page.inner_text())
            assert one.page.get_by_role("button", name="Sign out").count() == 1
            assert one.page.get_by_role("link", name="ada can change things").count() == 1
            for control in one.page.locator("main :is(button, select, input, textarea):visible").all():
                box = control.bounding_box()
                assert box is not None, path
                assert box["x"] >= 0, path
                assert box["x"] + box["width"] <= width, (path, control.inner_html())
        assert one.troubles == []


def test_the_policy_stops_a_script_that_would_get_into_a_page(opened: Window) -> None:
    opened.page.goto(console(opened, "calls"))
    refused = opened.page.evaluate(
        """() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
            const script = document.createElement("script");
            script.textContent = "document.title = 'run'";
            document.body.append(script);
            setTimeout(() => done("nothing"), 2000);
        })"""
    )
    assert refused.startswith("script-src")
    assert opened.page.title() != "run"
    assert any("Content Security Policy" in one for one in opened.troubles), "a browser says so"
    opened.troubles.clear()


def test_a_page_that_is_out_of_date_changes_nothing_and_loads_anew_by_the_same_key(
    broker: Broker, opened: Window, person: str
) -> None:
    _, grant = granted(broker, person, "get_*")
    opened.page.goto(console(opened, f"people/{person}"))
    broker.administrator.administer("person", "suspend", person)
    opened.page.get_by_role("button", name="Suspend").first.press("Enter")
    opened.page.get_by_role("status").get_by_text("This changed since the page was loaded").wait_for()
    assert opened.page.evaluate("document.activeElement.textContent") == "Reload"
    opened.troubles.clear()  # the browser lists the 409
    opened.page.keyboard.press("Enter")
    opened.page.get_by_role("button", name="Resume").first.wait_for()
    assert broker.rows("person", "show", person)[0]["state"] == "suspended"
    assert broker.rows("grant", "show", grant)[0]["own_state"] == "active"


@pytest.mark.parametrize("answer", [lost, of_a_proxy, of_a_proxy_in_json])
def test_a_change_whose_answer_is_lost_is_not_said_to_be_undone(
    broker: Broker, opened: Window, person: str, answer: Callable[[Route], None]
) -> None:
    """It is asked for by hand once more only after a look at what is so."""
    _, grant = granted(broker, person, "get_*")
    opened.page.goto(console(opened, f"people/{person}"))
    opened.page.route("**/console/changes", answer)
    confirm(opened, "Revoke the grant of default")
    opened.page.get_by_role("status").get_by_text("it is not known whether this was done").wait_for()
    assert broker.rows("grant", "show", grant)[0]["state"] == "revoked"
    opened.page.get_by_role("button", name="Reload").click()
    opened.page.get_by_text("revoked", exact=True).first.wait_for()
    opened.troubles.clear()  # the browser lists what it had no answer to


def test_a_change_that_was_not_sent_is_said_to_be_undone(broker: Broker, opened: Window, person: str) -> None:
    _, grant = granted(broker, person, "get_*")
    opened.page.goto(console(opened, f"people/{person}"))
    opened.page.route("**/console/changes/ask", lost)
    confirm(opened, "Revoke the grant of default")
    opened.page.get_by_role("status").get_by_text("Nothing was changed").wait_for()
    assert broker.rows("grant", "show", grant)[0]["state"] == "active"
    opened.troubles.clear()


@pytest.mark.usefixtures("asking")
def test_a_question_that_is_answered_elsewhere_is_asked_no_more(
    broker: Broker, browser: Browser, ada: SigningLaptop, opened: Window, person: str
) -> None:
    """Also where its arguments are open, which stay."""
    laptop, _ = granted(broker, person, "*")
    approval = laptop.call("keyed", "create_item", {"note": person})["approval"]["id"]
    opened.page.goto(console(opened, f"approvals/{approval}"))
    opened.page.get_by_role("button", name="Deny").wait_for()
    with window(browser, storage_state=opened.context.storage_state()) as closed:
        closed.page.goto(console(opened, f"approvals/{approval}"))
        opened.page.get_by_role("button", name="Show the arguments").click()
        opened.page.get_by_role("button", name="Allow once").wait_for()
        path = f"{wire.PATH_INBOX}/{approval}"
        ada.administer("POST", f"{path}/answer", {"answer": "deny", "digest": ada.administer("GET", path)["digest"]})
        for one in (opened, closed):
            one.page.get_by_text("denied").first.wait_for()
            assert one.page.get_by_role("button", name="Deny").count() == 0
        assert closed.troubles == []
    assert opened.page.get_by_role("button", name="Allow").count() == 0
    assert person in opened.page.inner_text("pre.arguments >> nth=0")


def test_without_a_passkey_a_click_changes_nothing(
    broker: Broker, browser: Browser, opened: Window, person: str
) -> None:
    """Her session in another browser, which has no passkey of hers."""
    _, grant = granted(broker, person, "get_*")
    with window(browser, storage_state=opened.context.storage_state()) as other:
        other.page.goto(console(opened, f"people/{person}"))
        other.devtools.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": other.authenticator})
        options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True}
        options |= {"hasUserVerification": True, "isUserVerified": True}
        other.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        confirm(other, "Revoke the grant of default")
        other.page.get_by_role("status").get_by_text("did not answer").wait_for()
    assert broker.rows("grant", "show", grant)[0]["state"] == "active"


def signed_out(one: Window) -> None:
    one.page.get_by_role("button", name="Sign out").click()
    one.page.get_by_role("button", name="Sign in with a passkey").wait_for()
    one.troubles = [trouble for trouble in one.troubles if "401" not in trouble]  # what was under way for the page


def test_signing_in_leads_to_the_page_that_was_asked_for(ada: SigningLaptop, opened: Window, person: str) -> None:
    """By a passkey, and by a link, before which the browser may have been elsewhere, as at a provider."""
    key, calls = console(opened, "servers/keyed#rotate"), console(opened, f"calls?person={person}&since=1h")
    signed_out(opened)
    opened.page.goto(key)
    opened.page.get_by_role("button", name="Sign in with a passkey").click()
    opened.page.get_by_role("heading", name="Delivery").wait_for()
    assert opened.page.url == key
    signed_out(opened)
    opened.page.goto(calls)
    opened.page.goto("about:blank")
    opened.page.goto(str(ada.administer("POST", "/v1/console/link")["link"]))
    opened.page.get_by_role("button", name="Sign in with this link").click()
    opened.page.get_by_role("heading", name="Calls").wait_for()
    assert opened.page.url == calls
    signed_out(opened)
    opened.page.get_by_role("button", name="Sign in with a passkey").click()
    opened.page.get_by_role("heading", name="Overview").wait_for()
    opened.troubles.clear()  # the browser lists each 401


def test_a_link_of_another_site_leads_who_is_signed_in_to_its_page(opened: Window) -> None:
    """As in a message that is read in a browser."""
    people = console(opened, "people")
    opened.page.goto(f"data:text/html,<a href='{people}'>Answer it</a>")
    opened.page.get_by_role("link").click()
    opened.page.get_by_role("heading", name="People").wait_for()
    assert opened.page.url == people
    opened.troubles.clear()  # the browser lists the 401 of its first try


@pytest.mark.parametrize(
    "kept",
    [
        "//evil.example/console/",
        "/\\evil.example/console/",
        "https://evil.example/console/",
        "/console/..//evil.example/",
        "/console/%2e%2e/%2e%2e//evil.example",
        "/\n/evil.example/console/",
        "/console/\n/../..//evil.example",
        "javascript:document.title=1//console/",
        "/v1/health",
        "/console/sign-in",
        "http://[",
    ],
)
def test_signing_in_leads_to_no_page_but_the_consoles(opened: Window, kept: str) -> None:
    """Whatever was kept, by whomever."""
    signed_out(opened)
    opened.page.evaluate("kept => sessionStorage.setItem('percall-wanted', kept)", kept)
    opened.page.get_by_role("button", name="Sign in with a passkey").click()
    opened.page.get_by_role("heading", name="Overview").wait_for()
    assert opened.page.url == console(opened, "")


def test_a_passkey_signs_in_and_a_session_that_ends_leaves_the_page_but_for_what_was_typed(
    broker: Broker, browser: Browser, ada: SigningLaptop
) -> None:
    assert ada.token, "she stays, so that there is an administrator"
    bea = administrator(broker, "bea")
    with window(browser) as one:
        enrol(one, bea)
        one.page.get_by_role("button", name="Sign out").click()
        one.page.get_by_role("button", name="Sign in with a passkey").click()
        one.page.get_by_role("heading", name="Overview").wait_for()
        one.page.goto(console(one, "policies"))
        one.page.get_by_label("Draft, Cedar").fill("permit(principal, action, resource);")
        with window(browser, storage_state=one.context.storage_state()) as another:
            another.page.goto(console(one, "calls"))
            broker.administrator.administer("person", "remove", "bea")
            another.page.get_by_role("heading", name="Sign in").wait_for()
        one.page.get_by_text("You are not signed in any more").wait_for()
        assert one.page.get_by_label("Draft, Cedar").input_value() == "permit(principal, action, resource);"
        one.page.get_by_role("button", name="Replay").click()
        one.page.get_by_text("You are not signed in any more").wait_for()
        one.page.get_by_role("button", name="Reload").click()
        one.page.get_by_role("heading", name="Sign in").wait_for()
