"""Policies that are not in force, tried on calls: in a process of their own, so that nobody else waits for them.

Whoever may read may try a draft, and Cedar evaluates it for as long as the draft makes it, in native code that nothing
interrupts. So the process has a time, a low priority, and its turn: one draft is tried at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from percall_broker.model.errors import InvalidInput, TooMany, Unavailable
from percall_broker.policy.evaluation import Asked, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

SECONDS = 50
"""For one trial, all of it; the process's time on the processor too."""
_TURN_SECONDS = 5
MOST_SECONDS = SECONDS + _TURN_SECONDS
"""Until there is an answer: less than the minute that a proxy in front of the broker waits for one."""
_PROCESS = "percall_broker.policy.trial_process"
_MOST_ANSWERED_BYTES = 64 * 1024 * 1024
_AT_A_TIME = 50
_VERDICTS = msgspec.json.Decoder(list[Verdict])

Call = tuple[Asked, float]
"""A call, and when it was made, in seconds."""


class Trials:
    """Where drafts are tried, one at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def begun(self, files: Mapping[str, str]) -> AsyncIterator[Trial]:
        """A trial of these policies. Raises InvalidInput where they do not hold, or take too long; TooMany where others
        are being tried; Unavailable.
        """
        try:
            await asyncio.wait_for(self._turn.acquire(), _TURN_SECONDS)
        except TimeoutError:
            next_step = "Try again when that is over; it takes a minute at most."
            raise TooMany("policy.busy", "Other policies are being tried.", next_step, seconds=SECONDS) from None
        try:
            process = await _started()
            try:
                async with asyncio.timeout(SECONDS):
                    await process.answer(dict(files))
                    yield Trial(process)
            except TimeoutError:
                raise InvalidInput(
                    "policy.slow",
                    f"To try these policies takes more than {SECONDS} seconds.",
                    "Compare with shorter patterns, or try them on fewer days.",
                ) from None
            finally:
                await process.end()
        finally:
            self._turn.release()


class Trial:
    """One draft, read and waiting for calls."""

    def __init__(self, process: _Process) -> None:
        self._process = process

    async def verdicts(self, calls: Sequence[Call]) -> list[Verdict]:
        """What it says of each call, in order. Raises InvalidInput, Unavailable."""
        found: list[Verdict] = []
        for first in range(0, len(calls), _AT_A_TIME):
            found += _VERDICTS.decode(await self._process.answer(calls[first : first + _AT_A_TIME]))
        return found


class _Process:
    """A line of JSON goes in, a line comes back."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def answer(self, asked: Any) -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - both are pipes
        assert stdout is not None  # noqa: S101
        line = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ValueError):  # it ended, or answered too much
            stdin.write(msgspec.json.encode(asked) + b"\n")
            await stdin.drain()
            line = await stdout.readline()
        if not line:
            raise Unavailable("policy.trial", "The process that tries policies ended.", "See the broker's log.")
        if line.startswith(b"{"):
            raise InvalidInput(**msgspec.json.decode(line))
        return line

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


async def _started() -> _Process:
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            _PROCESS,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_MOST_ANSWERED_BYTES,
        )
    except OSError as error:
        message = f"The process that tries policies cannot be started: {error.strerror}."
        raise Unavailable("policy.trial", message, "See the broker's log.") from error
    return _Process(process)
