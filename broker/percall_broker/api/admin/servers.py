"""Routes of the catalogue. A key arrives in a request's body, inside the signature, and is never part of an answer."""

# No postponed annotations here: FastAPI reads them, and `By` below is local.
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field, SecretStr

from percall_broker.api.admin.forms import Administrator, Form, Seconds
from percall_broker.model.records import Identity
from percall_broker.pipeline.administration.servers import Servers


class EntryForm(Form):
    """A server entry in TOML; `connect` maps https origins to loopback stand-ins."""

    entry: str = Field(max_length=256 * 1024)
    connect: dict[str, str] = Field(default_factory=dict)


class ServerForm(EntryForm):
    """A new server, with its key where it needs one; `expires_at` is when that key ends at its issuer, in seconds."""

    name: str
    secret: SecretStr = SecretStr("")
    expires_at: Seconds = 0


class AcceptForm(Form):
    """Whose offered key becomes the shared one."""

    person: str


class SecretForm(Form):
    """A new key."""

    secret: SecretStr
    expires_at: Seconds = 0


class KeyEndForm(Form):
    """When the key in use ends; 0 for never."""

    expires_at: Seconds


def router(servers: Servers, administrator: Administrator) -> APIRouter:
    """The routes under /servers, without those of keys."""
    routes = APIRouter(prefix="/servers")
    By = Annotated[Identity, Depends(administrator)]

    @routes.get("")
    async def listed() -> list[dict[str, Any]]:
        return await servers.listed()

    @routes.post("")
    async def add(by: By, form: ServerForm) -> dict[str, Any]:
        secret = form.secret.get_secret_value().encode()
        return await servers.add(by, form.name, form.entry, form.connect, secret, form.expires_at)

    @routes.get("/{name}")
    async def show(name: str) -> dict[str, Any]:
        return await servers.show(name)

    @routes.get("/{name}/entry")
    async def entry(name: str) -> dict[str, Any]:
        return await servers.entry(name)

    @routes.put("/{name}")
    async def update(by: By, name: str, form: EntryForm) -> dict[str, Any]:
        return await servers.update(by, name, form.entry, form.connect)

    @routes.delete("/{name}")
    async def remove(by: By, name: str) -> dict[str, Any]:
        await servers.remove(by, name)
        return {"server": name, "state": "removed"}

    @routes.post("/{name}/suspend")
    async def suspend(by: By, name: str) -> dict[str, Any]:
        return await servers.set_state(by, name, "suspended")

    @routes.post("/{name}/resume")
    async def resume(by: By, name: str) -> dict[str, Any]:
        return await servers.set_state(by, name, "active")

    return routes


def keys_router(servers: Servers, keeper: Administrator) -> APIRouter:
    """The routes of shared keys; `keeper` is who may change keys."""
    routes = APIRouter(prefix="/servers/{name}")
    By = Annotated[Identity, Depends(keeper)]

    @routes.post("/key")
    async def rotate_key(by: By, name: str, form: SecretForm) -> dict[str, Any]:
        return await servers.rotate_key(by, name, form.secret.get_secret_value().encode(), form.expires_at)

    @routes.put("/key/end")
    async def set_key_end(by: By, name: str, form: KeyEndForm) -> dict[str, Any]:
        return await servers.set_key_end(by, name, form.expires_at)

    @routes.post("/accept-key")
    async def accept_key(by: By, name: str, form: AcceptForm) -> dict[str, Any]:
        return await servers.accept_key(by, name, form.person)

    return routes
