"""Signing in at the organisation's provider: who that is here, what they may do, until when; and tokens that lie."""

from __future__ import annotations

import hashlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from harness.console import ConsoleBrowser
from harness.openid import CLIENT_ID, Browser, CertifiedProvider, HostileProvider, settings
from harness.processes import command, keyed_entry
from harness.signing import Answer, SigningLaptop
from harness.upstream import CANARY
from integration.conftest import Served
from percall import wire
from percall.proof import base64url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.upstream import Upstream

REDIRECT = "http://127.0.0.1:9/callback"


@contextmanager
def served_with(
    folder: Path, server: str, upstream: Upstream, issuer: str, groups: dict[str, str] | None = None
) -> Iterator[Served]:
    """A broker that knows the provider, with a server, and a group that may read it."""
    mapped = settings(issuer, {"engineering": "devs"} if groups is None else groups)
    with Served(folder, server, settings=mapped) as served:
        served.add_server("keyed", keyed_entry(upstream.url), CANARY)
        served.administrator.administer("POST", "/v1/admin/groups/devs/join", {"people": []})
        grant = {"servers": {"keyed": {"tools": ["get_*"]}}, "agent": "", "expires_seconds": 0}
        served.administrator.administer("POST", "/v1/admin/groups/devs/grants", grant)
        yield served


def sign_in(served: Served, login: str) -> Answer:
    """What the broker says to somebody who signed in at the provider's pages."""
    offer = SigningLaptop(served.url).exchange("GET", wire.PATH_SIGN_IN, b"", {}).json
    verifier, nonce, state = (secrets.token_urlsafe(32) for _ in range(3))
    query = {
        "response_type": "code",
        "client_id": offer["client_id"],
        "redirect_uri": REDIRECT,
        "scope": offer["scope"],
        "state": state,
        "nonce": nonce,
        "code_challenge": base64url(hashlib.sha256(verifier.encode()).digest()),
        "code_challenge_method": "S256",
    }
    location = Browser(login).code_for(f"{offer['authorization_endpoint']}?{urlencode(query)}", REDIRECT)
    answered = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    assert answered["state"] == state
    return present(served, answered["code"], nonce, verifier)


def enrolled(served: Served, login: str) -> SigningLaptop:
    """A laptop of whoever signed in, with what their groups are granted."""
    answer = sign_in(served, login)
    assert answer.status == 200, answer.body
    laptop = SigningLaptop.enrolled(served.url, answer.json["invite"])
    body = wire.dump(wire.encode(wire.Claim("default", laptop.key.public_jwk())))
    claimed = laptop.send("POST", wire.PATH_CLAIMS, body).json["enrolled"]
    laptop.token = next(one["token"] for one in claimed if one["session"]["servers"])
    return laptop


def present(served: Served, code: str, nonce: str, verifier: str = "v" * 43) -> Answer:
    body = wire.dump(wire.encode(wire.SignIn(code, verifier, nonce, REDIRECT, enrol=True)))
    return SigningLaptop(served.url).exchange("POST", wire.PATH_SIGN_IN, body, {})


def lapse(served: Served) -> None:
    """As if the days had passed: no test waits for them."""
    served.past_the_broker("UPDATE persons SET sign_in_until = 1 WHERE sign_in_until > 0")


def sign_in_ends(served: Served) -> dict[str, int]:
    """When each person's sign-in lapses, as administrators see it."""
    return {row["person"]: row["sign_in_ends_at"] for row in served.administrator.administer("GET", "/v1/admin/people")}


def states_of_grants(served: Served, person: str) -> list[set[str]]:
    """The states of a person's grants: in the list of all, in that of the person, and each for itself."""
    look = partial(served.administrator.administer, "GET")
    listed = [row for row in look("/v1/admin/grants") if row["person"] == person]
    each = [look(f"/v1/admin/grants/{row['grant']}") for row in listed]
    return [{row["state"] for row in rows} for rows in (listed, look(f"/v1/admin/people/{person}")["grants"], each)]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CertifiedProvider]:
    accounts = {
        "alice": {"email": "alice@example.com", "groups": ["engineering"]},
        "bob": {"email": "bob@example.com", "groups": ["sales"]},
        "second": {"email": "alice@example.com", "groups": ["engineering"]},
        "carol": {"email": "carol@example.com", "groups": ["engineering"]},
        "dave": {"email": "dave@example.com", "groups": ["engineering"]},
        "erin": {"email": "erin@example.com", "groups": ["engineering"]},
        "frank": {"email": "frank@example.com", "groups": ["engineering"]},
        "grace": {"email": "grace@example.com", "groups": ["engineering"]},
        "heidi": {"email": "heidi@example.com", "groups": []},
        "ivan": {"email": "ivan@example.com", "groups": ["engineering"]},
        "mona": {"email": "mona@example.com", "groups": ["engineering"]},
        "judy": {"email": "judy@example.com", "groups": ["engineering"]},
        "ada": {"email": "ada@example.com", "groups": ["engineering"]},
    }
    with CertifiedProvider(tmp_path_factory.mktemp("provider"), accounts) as running:
        yield running


@pytest.fixture(scope="module")
def signing_in(
    provider: CertifiedProvider, server: str, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with served_with(tmp_path_factory.mktemp("served"), server, upstream, provider.url) as served:
        yield served


@pytest.mark.node
def test_who_signs_in_is_a_person_here_with_their_groups_grants(signing_in: Served) -> None:
    signed = sign_in(signing_in, "alice").json
    assert signed["person"] == "alice@example.com"
    assert 6.9 < (signed["until"] - time.time()) / 86400 <= 7
    laptop = enrolled(signing_in, "alice")
    assert laptop.call("keyed", "get_item")["decision"] == "permit"


@pytest.mark.node
def test_a_person_signs_in_to_the_console_there_and_only_in_the_browser_that_began(signing_in: Served) -> None:
    enrolled(signing_in, "frank")
    browser = ConsoleBrowser.of(signing_in.url)
    assert "Sign in with your organisation" in browser.text("sign-in")
    back = browser.origin + "/console/sign-in/back"

    def begun(one: ConsoleBrowser) -> dict[str, str]:
        """The provider's answer, as its redirect brings it to a page that does nothing by itself."""
        location = Browser("frank").code_for(one.post("sign-in/provider/ask").json["location"], back)
        assert one.get(location.partition("/console/")[2]).status == 200
        return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}

    answer = begun(browser)
    other = ConsoleBrowser.of(signing_in.url)
    told = {"code": answer["code"], "state": answer["state"]}
    assert other.post("sign-in/provider", told).code == "sign_in.state", "a code that somebody else was given"
    begun(other)
    assert other.post("sign-in/provider", told).code == "sign_in.state"
    assert browser.post("sign-in/provider", told).status == 200
    assert "frank@example.com" in browser.text("approvals")
    assert browser.post("sign-in/provider", told).code == "sign_in.state", "once"


@pytest.mark.node
def test_who_is_in_no_mapped_group_stays_a_stranger(signing_in: Served) -> None:
    assert sign_in(signing_in, "bob").code == "sign_in.no_group"
    people = signing_in.administrator.administer("GET", "/v1/admin/people")
    assert "bob@example.com" not in {row["person"] for row in people}


@pytest.mark.node
def test_another_account_of_the_same_name_does_not_become_that_person(signing_in: Served) -> None:
    assert sign_in(signing_in, "alice").status == 200
    refused = sign_in(signing_in, "second")
    assert refused.code == "sign_in.other"
    assert "person link alice@example.com" in refused.json["error"]["next_step"]
    signing_in.administrator.administer("POST", "/v1/admin/people/alice@example.com/link")
    assert sign_in(signing_in, "second").status == 200
    assert sign_in(signing_in, "alice").code == "sign_in.other"
    signing_in.administrator.administer("POST", "/v1/admin/people/alice@example.com/link")


@pytest.mark.node
def test_a_name_at_the_provider_alone_makes_nobody_a_person_who_is_here(signing_in: Served) -> None:
    administrator = signing_in.administrator
    invited = administrator.administer("POST", "/v1/admin/people/grace@example.com/invite")
    SigningLaptop.enrolled(signing_in.url, invited["invite"])
    refused = sign_in(signing_in, "grace")
    assert refused.code == "sign_in.unlinked"
    assert "person link grace@example.com" in refused.json["error"]["next_step"]
    assert sign_in_ends(signing_in)["grace@example.com"] == 0, "nothing of hers has changed"
    administrator.administer("POST", "/v1/admin/people/grace@example.com/link")
    assert sign_in(signing_in, "grace").json["person"] == "grace@example.com"


@pytest.mark.node
def test_nobody_becomes_an_administrator_by_the_name_of_one(signing_in: Served) -> None:
    command("percall-broker", "invite", "ada@example.com", environment=signing_in.environment)  # whose nobody used yet
    assert sign_in(signing_in, "ada").code == "sign_in.unlinked"


@pytest.mark.node
def test_who_is_expected_here_and_was_never_seen_is_whoever_signs_in_under_the_name(signing_in: Served) -> None:
    signing_in.administrator.administer("POST", "/v1/admin/people/heidi@example.com/invite")
    assert sign_in(signing_in, "heidi").json["person"] == "heidi@example.com"


@pytest.mark.node
def test_a_removed_person_s_account_does_not_come_back_with_the_name(signing_in: Served) -> None:
    administrator = signing_in.administrator
    assert sign_in(signing_in, "judy").status == 200
    administrator.administer("POST", "/v1/admin/people/judy@example.com/remove")
    administrator.administer("POST", "/v1/admin/people/judy@example.com/invite")  # another judy, by her invite
    assert sign_in_ends(signing_in)["judy@example.com"] == 0, "who need not sign in"
    refused = sign_in(signing_in, "judy")
    assert refused.code == "sign_in.ended"
    assert "person link judy@example.com" in refused.json["error"]["next_step"]
    administrator.administer("POST", "/v1/admin/people/judy@example.com/link")  # or the same, who is back
    assert sign_in(signing_in, "judy").json["person"] == "judy@example.com"


@pytest.mark.node
def test_who_was_removed_before_ever_signing_in_does_not_come_back_by_it(signing_in: Served) -> None:
    signing_in.administrator.administer("POST", "/v1/admin/people/ivan@example.com/invite")
    signing_in.administrator.administer("POST", "/v1/admin/people/ivan@example.com/remove")
    assert sign_in(signing_in, "ivan").code == "person.removed"


@pytest.mark.node
def test_who_was_removed_or_suspended_here_does_not_come_back_by_signing_in(signing_in: Served) -> None:
    assert sign_in(signing_in, "carol").status == 200
    signing_in.administrator.administer("POST", "/v1/admin/people/carol@example.com/suspend")
    assert sign_in(signing_in, "carol").code == "person.suspended"
    signing_in.administrator.administer("POST", "/v1/admin/people/carol@example.com/remove")
    assert sign_in(signing_in, "carol").code == "person.removed"


@pytest.mark.node
def test_who_leaves_a_group_at_the_provider_loses_its_grants_at_the_next_sign_in(
    signing_in: Served, provider: CertifiedProvider
) -> None:
    laptop = enrolled(signing_in, "dave")
    assert laptop.call("keyed", "get_item")["decision"] == "permit"
    provider.accounts["dave"]["groups"] = []
    provider.save()
    try:
        assert sign_in(signing_in, "dave").status == 200
    finally:
        provider.accounts["dave"]["groups"] = ["engineering"]
        provider.save()
    assert laptop.call("keyed", "get_item")["decision"] == "forbid"


@pytest.mark.node
def test_a_code_is_taken_once_and_only_with_its_verifier(signing_in: Served) -> None:
    answer = present(signing_in, "no-such-code", "nonce")
    assert (answer.status, answer.code) == (401, "sign_in.code")


@pytest.mark.node
@pytest.mark.node
def test_agents_that_sign_in_at_once_all_get_in(signing_in: Served) -> None:
    assert sign_in(signing_in, "mona").status == 200
    for _ in range(3):
        signing_in.administrator.administer("POST", "/v1/admin/groups/devs/leave", {"people": ["mona@example.com"]})
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: sign_in(signing_in, "mona"), range(4)))
        assert [answer.status for answer in answers] == [200] * 4, [answer.body for answer in answers]


def test_a_sign_in_that_has_lapsed_stops_every_grant_of_that_person_and_a_new_one_brings_them_back(
    signing_in: Served,
) -> None:
    laptop = enrolled(signing_in, "erin")
    bystander, _ = signing_in.enrol()
    assert laptop.call("keyed", "get_item")["decision"] == "permit"
    ends = sign_in_ends(signing_in)
    assert abs(ends["erin@example.com"] - (time.time() + 7 * 86400)) < 120
    assert ends[f"person{signing_in.people}"] == 0, "who need not sign in"
    lapse(signing_in)
    assert sign_in_ends(signing_in)["erin@example.com"] < time.time()
    refusal = laptop.call("keyed", "get_item")["refusal"]
    assert refusal["code"] == "person.sign_in"
    assert "percall login" in refusal["next_step"]
    assert states_of_grants(signing_in, "erin@example.com") == [{"expired"}] * 3, "alike wherever it is looked at"
    assert bystander.call("keyed", "get_item")["decision"] == "permit"
    assert sign_in(signing_in, "erin").status == 200
    assert laptop.call("keyed", "get_item")["decision"] == "permit"


LIES: dict[str, tuple[Any, Any, str]] = {
    "another issuer": (lambda c: {**c, "iss": "https://other.example"}, None, "sign_in.issuer"),
    "another client": (lambda c: {**c, "aud": "other"}, None, "sign_in.audience"),
    "another authorised party": (lambda c: {**c, "aud": [CLIENT_ID, "o"], "azp": "o"}, None, "sign_in.audience"),
    "another sign-in": (lambda c: {**c, "nonce": "other"}, None, "sign_in.nonce"),
    "no nonce": (lambda c: {k: v for k, v in c.items() if k != "nonce"}, None, "sign_in.nonce"),
    "expired": (lambda c: {**c, "exp": c["iat"] - 1000}, None, "sign_in.expired"),
    "from the future": (lambda c: {**c, "iat": c["iat"] + 9000, "exp": c["exp"] + 9000}, None, "sign_in.clock"),
    "no end": (lambda c: {k: v for k, v in c.items() if k != "exp"}, None, "sign_in.time"),
    "unverified e-mail": (lambda c: {**c, "email_verified": False}, None, "sign_in.email"),
    "e-mail verified as text": (lambda c: {**c, "email_verified": "false"}, None, "sign_in.email"),
    "no name": (lambda c: {k: v for k, v in c.items() if k != "email"}, None, "sign_in.name"),
    "a name that is none": (lambda c: {**c, "email": "../../etc"}, None, "person.name"),
    "groups as text": (lambda c: {**c, "groups": "engineering"}, None, "sign_in.groups"),
    "nobody": (lambda c: {**c, "sub": ""}, None, "sign_in.subject"),
    "unsigned": (None, HostileProvider.unsigned, "sign_in.signature"),
    "by the client's secret": (None, HostileProvider.macked, "sign_in.signature"),
    "by another key of that name": (None, HostileProvider.by_a_stranger, "sign_in.signature"),
    "no token at all": (None, lambda _self, _claims: "x.y", "sign_in.signature"),
}


@pytest.fixture(scope="module")
def deceived(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, HostileProvider]]:
    folder = tmp_path_factory.mktemp("deceived")
    with HostileProvider() as provider, served_with(folder, "", upstream, provider.url) as served:
        yield served, provider


@pytest.mark.parametrize("lie", LIES)
def test_a_token_that_lies_signs_nobody_in(deceived: tuple[Served, HostileProvider], lie: str) -> None:
    served, provider = deceived
    claims, sign, code = LIES[lie]
    provider.claims = claims or (lambda honest: honest)
    provider.sign = sign or (lambda self, honest: self.signed(honest))
    try:
        assert present(served, "nonce", "nonce").code == code
    finally:
        provider.claims, provider.sign = (lambda honest: honest), (lambda self, honest: self.signed(honest))
    people = served.administrator.administer("GET", "/v1/admin/people")
    assert "mallory@example.com" not in {row["person"] for row in people if row["state"] == "active" and row["grants"]}


@pytest.mark.parametrize(
    ("described", "code"),
    [
        ({"issuer": "https://other.example"}, "sign_in.issuer"),
        ({"token_endpoint": "http://198.51.100.7/token"}, "sign_in.endpoint"),
        ({"authorization_endpoint": "file:///etc/passwd"}, "sign_in.endpoint"),
        ({"jwks_uri": None}, "sign_in.endpoint"),
    ],
)
def test_a_provider_that_describes_itself_wrongly_is_not_followed(
    upstream: Upstream, tmp_path: Path, described: dict[str, Any], code: str
) -> None:
    with HostileProvider(described=described) as provider, served_with(tmp_path, "", upstream, provider.url) as served:
        answer = present(served, "nonce", "nonce")
        assert (answer.status, answer.code) == (502, code)
        assert "/token" not in provider.asked


def test_a_provider_that_is_away_is_told_and_the_grants_go_on(upstream: Upstream, tmp_path: Path) -> None:
    with HostileProvider() as provider:
        issuer = provider.url
    with served_with(tmp_path, "", upstream, issuer) as served:
        assert present(served, "nonce", "nonce").code == "sign_in.unreachable"
        laptop, _ = served.enrol()
        assert laptop.call("keyed", "get_item")["decision"] == "permit"


def test_a_broker_without_a_provider_says_to_ask_for_an_invite(tmp_path: Path) -> None:
    with Served(tmp_path) as served:
        answer = SigningLaptop(served.url).exchange("GET", wire.PATH_SIGN_IN, b"", {})
    assert (answer.status, answer.code) == (404, "sign_in.none")
    assert "invite" in answer.json["error"]["next_step"]
