"""Where a broker may listen: grants never travel in clear over a network."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trustme

from percall_broker import settings
from percall_broker.listening import listening, tls_context
from percall_broker.model.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

PUBLIC = "https://percall.example.com"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERCALL_BROKER_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Path]:
    issued = trustme.CA().issue_cert("percall.example.com")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    return {"tls_cert": certificate, "tls_key": key}


def code_of(**told: object) -> str:
    """The code of the refusal; empty when it listens."""
    try:
        loaded = settings.load(**told)
        tls_context(loaded)
        with listening(loaded):
            return ""
    except InvalidInput as error:
        return error.code


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_a_plain_listener_that_is_not_loopback_is_refused(listen: str) -> None:
    assert code_of(listen=listen, public_url=PUBLIC) == "serve.plain"


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0"])
def test_a_plain_listener_on_loopback_is_allowed(listen: str) -> None:
    assert code_of(listen=listen) == ""


def test_a_plain_listener_for_named_proxies_is_allowed_and_wants_the_public_url() -> None:
    assert code_of(listen="0.0.0.0:0", trusted_proxies=["10.0.0.5"], public_url=PUBLIC) == ""
    assert code_of(listen="0.0.0.0:0", trusted_proxies=["10.0.0.5"]) == "serve.public_url"


def test_a_listener_with_tls_may_be_anywhere_and_wants_the_public_url_where_it_cannot_know_it(
    tls: dict[str, Path],
) -> None:
    assert code_of(listen="0.0.0.0:0", public_url=PUBLIC, **tls) == ""
    assert code_of(listen="0.0.0.0:0", **tls) == "serve.public_url"


def test_a_public_url_that_laptops_refuse_is_refused_here_too() -> None:
    assert code_of(listen="127.0.0.1:0", public_url="http://percall.example.com") == "settings.form"


def test_a_certificate_without_its_key_or_with_anothers_is_refused(tls: dict[str, Path], tmp_path: Path) -> None:
    assert code_of(listen="127.0.0.1:0", tls_cert=tls["tls_cert"]) == "serve.tls"
    assert code_of(listen="127.0.0.1:0", tls_key=tls["tls_key"]) == "serve.tls"
    other = trustme.CA().issue_cert("percall.example.com").private_key_pem
    other.write_to_path(tmp_path / "other.pem")
    assert code_of(listen="127.0.0.1:0", tls_cert=tls["tls_cert"], tls_key=tmp_path / "other.pem") == "serve.tls"
    assert code_of(listen="127.0.0.1:0", tls_cert=tls["tls_cert"], tls_key=tmp_path / "none.pem") == "serve.tls"


def test_proxies_come_from_a_variable_too_and_one_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCALL_BROKER_TRUSTED_PROXIES", "10.0.0.5,10.1.0.0/28")
    assert settings.load().trusted_proxies == ("10.0.0.5", "10.1.0.0/28")
    monkeypatch.setenv("PERCALL_BROKER_TRUSTED_PROXIES", "proxy.example.com")
    with pytest.raises(InvalidInput, match=r"proxy\.example\.com"):
        settings.load()


def test_a_laptop_that_is_lost_is_noticed_also_while_nothing_is_sent_to_it() -> None:
    """No machine of the tests can lose packets: what is asked of the system is looked at."""
    with listening(settings.load(listen="127.0.0.1:0")) as listener:
        with socket.create_connection(listener.getsockname()):
            taken, _ = listener.accept()
        with taken:
            assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", 0))
            options = (idle, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [taken.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [15, 5, 3]
