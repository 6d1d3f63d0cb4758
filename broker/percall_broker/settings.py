"""What the broker is told: by `settings.toml` in its folder, by `PERCALL_BROKER_*` variables, and by the command line.

Two may be secret: `database`, whose URL may hold a password, and `oidc_client_secret`.
"""

from __future__ import annotations

import os
import shlex
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from percall_broker.model.errors import InvalidInput, Unavailable
from percall_broker.model.location import is_postgresql
from percall_broker.model.peers import TrustedProxies
from percall_broker.model.rules import is_loopback_name, parse_origin

FILE = "settings.toml"
_SECRETS = {"database", "oidc_client_secret"}
_OTHERS = 0o077
_SETTINGS = "docs/reference/percall-broker.md lists every setting."


def home() -> Path:
    """The broker's folder: PERCALL_BROKER_HOME, or `percall-broker` under the person's data folder."""
    named = os.environ.get("PERCALL_BROKER_HOME")
    if named:
        return Path(named).absolute()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "percall-broker"


class Settings(BaseSettings):
    """The broker's settings. `database` empty: the embedded store in the folder. `public_url` empty: as it listens.

    `trusted_proxies` are addresses and networks; with commas between them in a variable.
    `metrics_listen` empty: no figures are served. `traces_endpoint` empty: no spans are made.
    `oidc_issuer` empty: nobody signs in, people have invites; `oidc_groups` maps the provider's groups to groups here,
    `oidc_days` is how long a sign-in holds.
    `key_days` is how old an upstream key may become before that is told; 0 for any age.
    `arguments_days` is how long the sealed arguments of calls are kept; 0 for ever.
    """

    model_config = SettingsConfigDict(env_prefix="PERCALL_BROKER_", extra="forbid", frozen=True)

    home: Path
    database: SecretStr = SecretStr("")
    public_url: str = ""
    listen: str = "127.0.0.1:8765"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    metrics_listen: str = ""
    metrics_token_file: Path | None = None
    traces_endpoint: str = ""
    key_source: Literal["file", "systemd", "keyring", "transit", "aws"] = "file"
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")
    oidc_scope: str = "openid email groups"
    oidc_name_claim: str = "email"
    oidc_groups_claim: str = "groups"
    oidc_groups: dict[str, str] = Field(default_factory=dict)
    oidc_days: int = Field(7, ge=1, le=366)
    key_days: int = Field(0, ge=0, le=3660)
    arguments_days: int = Field(0, ge=0, le=3660)
    data_keys_kept_seconds: int = Field(300, ge=0, le=7 * 86400)
    transit_address: str = ""
    transit_token_file: Path | None = None
    transit_key: str = "percall"
    transit_mount: str = "transit"
    transit_namespace: str = ""
    transit_ca_file: Path | None = None
    aws_kms_key: str = ""
    aws_region: str = ""
    aws_kms_endpoint: str = ""

    @field_validator("database")
    @classmethod
    def _postgresql(cls, value: SecretStr) -> SecretStr:
        """Else it would be taken for a file's name, in whatever folder this is, with the password in it."""
        if value.get_secret_value() and not is_postgresql(value.get_secret_value()):
            raise ValueError("not a PostgreSQL URL, such as postgresql://percall@db.example.com/percall")
        return value

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str) -> str:
        """An origin and nothing more: the URL that shims sign their requests for."""
        if not value:
            return value
        try:
            return parse_origin(value.rstrip("/"))
        except InvalidInput as error:
            raise ValueError(error.message) from None

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer(cls, value: str) -> str:
        """https, or http on loopback for tests and demos; kept as it is written, for issuers are compared so."""
        parts = urlsplit(value)
        local = parts.scheme == "http" and is_loopback_name(parts.hostname or "")
        if value and not (parts.hostname and (parts.scheme == "https" or local)):
            raise ValueError("not an https URL")
        return value

    @field_validator("traces_endpoint")
    @classmethod
    def _collector(cls, value: str) -> str:
        """A URL of http or https, without credentials: those are OTEL_EXPORTER_OTLP_HEADERS's."""
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc):
            raise ValueError("not a collector's http or https URL")
        return value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        named = [one for one in value.split(",") if one.strip()] if isinstance(value, str) else value
        try:
            TrustedProxies(named)
        except InvalidInput as error:
            raise ValueError(error.message) from None
        return named

    @model_validator(mode="after")
    def _client(self) -> Self:
        if self.oidc_issuer and not (self.oidc_client_id and self.oidc_client_secret.get_secret_value()):
            raise ValueError("beside oidc_issuer, oidc_client_id and oidc_client_secret are needed")
        return self

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The command line first, then variables, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, home() / FILE)

    @property
    def location(self) -> str:
        """Where the store is: a PostgreSQL URL, or a path."""
        return self.database.get_secret_value() or str(self.home / "store.sqlite3")

    @property
    def keys(self) -> Path:
        """The folder of the key-encryption keys."""
        return self.home / "keys"


def load(**told: Any) -> Settings:
    """The settings; `told` is what the command line said. Raises InvalidInput, Unavailable."""
    _check_owner(home())
    _check_file(home() / FILE)
    try:
        return Settings(home=home(), **{name: value for name, value in told.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(map(_told, error.errors()))
        raise InvalidInput("settings.form", f"The broker's settings do not hold: {problems}.", _SETTINGS) from None
    except SettingsError as error:  # a variable that should be JSON; it names the variable's setting, not its value
        raise InvalidInput("settings.form", f"The broker's settings do not hold: {error}.", _SETTINGS) from None


def _check_owner(folder: Path) -> None:
    """Raises InvalidInput where root would make files that the broker's own user cannot read."""
    try:
        owner = folder.stat().st_uid
    except OSError:
        return
    if owner and hasattr(os, "geteuid") and os.geteuid() == 0:
        import pwd  # noqa: PLC0415 - POSIX alone has it

        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise InvalidInput(
            "settings.owner",
            f"{folder} belongs to {name}, and what root makes in it the broker could not read.",
            f"Run it as that user: sudo -u {shlex.quote(name)} percall-broker …",
        )


def _check_file(file: Path) -> None:
    """Raises InvalidInput for what is no TOML, or shows a secret to others; Unavailable for what cannot be read."""
    try:
        with file.open("rb") as opened:
            held = tomllib.load(opened)
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(
            "settings.read", f"{file} cannot be read: {error.strerror}.", "See its permissions."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = str(error).lower() if isinstance(error, tomllib.TOMLDecodeError) else "not UTF-8"
        raise InvalidInput("settings.form", f"{file} is no TOML: {reason}.", _SETTINGS) from None
    if mode & _OTHERS and _SECRETS & held.keys():
        secret = " and ".join(sorted(_SECRETS & held.keys()))
        raise InvalidInput("settings.mode", f"Others may read {file}, which holds {secret}.", f"Run: chmod 600 {file}")


def _told(problem: Any) -> str:
    """One of pydantic's problems, in words; never the value."""
    place = ".".join(map(str, problem["loc"]))
    what = "there is no such setting" if problem["type"] == "extra_forbidden" else str(problem["msg"])
    text = what.removeprefix("Value error, ").rstrip(".")
    return f"{place}: {text}" if place else text
