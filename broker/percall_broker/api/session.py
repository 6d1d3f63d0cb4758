"""POST /v1/invitation, POST /v1/enrol, where a device becomes known, and GET /v1/session, what its grant may use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from percall import wire
from percall_broker.asgi import answer_message, read_body, read_message, signed_request
from percall_broker.model.errors import Unauthenticated
from percall_broker.stages.authenticate import check_version

if TYPE_CHECKING:
    from percall_broker.asgi import Message, Receive, Send
    from percall_broker.pipeline.enrol import Enrolment
    from percall_broker.pipeline.sessions import Sessions
    from percall_broker.pipeline.signed import Signed

_MAX_ENROLMENT_BYTES = 16 * 1024


class EnrolmentDoor:
    """POST /v1/enrol: no grant yet, but a proof of the key that introduces itself."""

    def __init__(self, enrol: Enrolment) -> None:
        self._enrol = enrol

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, _MAX_ENROLMENT_BYTES)
        asked = read_message(wire.Enrolment, body)
        request = signed_request(scope, body)
        check_version(request.version)  # before an invite is spent
        enrolled = await self._enrol(asked, request, time.time())
        await answer_message(send, enrolled)


class InvitationDoor:
    """POST /v1/invitation: what an invite is for, to whoever holds it."""

    def __init__(self, enrol: Enrolment) -> None:
        self._enrol = enrol

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a door's form
        """One request. Raises BrokerError before anything is answered."""
        asked = read_message(wire.InviteCode, await read_body(receive, _MAX_ENROLMENT_BYTES))
        invitation = await self._enrol.invitation(asked.invite, time.time())
        await answer_message(send, invitation)


class SessionDoor:
    """GET /v1/session: for a grant in any state, since the state is part of the answer."""

    def __init__(self, signed: Signed, sessions: Sessions) -> None:
        self._signed = signed
        self._sessions = sessions

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. Raises BrokerError before anything is answered."""
        body = await read_body(receive, 0)
        now = time.time()
        identity = await self._signed.identify_once(signed_request(scope, body), now)
        session = await self._sessions.of(identity.grant.id, now)
        if session is None:
            raise Unauthenticated(
                wire.CODE_GRANT_UNKNOWN, "The grant is not known here.", "Sign in again: percall login."
            )
        await answer_message(send, session)
