"""A draft is tried in a process of its own, which has its time and its turn."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from dataclasses import replace

import pytest

from percall_broker.model.errors import InvalidInput, TooMany
from percall_broker.model.records import Limit
from percall_broker.policy import trial
from percall_broker.policy.trial import Trials
from unit.broker.policy import test_evaluation

pytestmark = pytest.mark.anyio
CALL = replace(
    test_evaluation.CALL,
    groups=("leads",),
    subjects=("get_issue",),
    arguments=b'{"text": "%s"}' % (b"a" * 250_000),
    annotations=(("readOnly", True),),
)
DRAFT = {
    "a.cedar": '@id("all") permit(principal, action, resource);',
    "b.cedar": '@id("ask") @ask("leads") @separate @limit("3/day") @reason("r")'
    ' permit(principal, action, resource == Tool::"github/get_issue") when { resource has readOnly };',
}
SLOW = {
    "a.cedar": "".join(
        f'@id("{number}") permit(principal, action, resource) when {{ context.arguments.hasTag("text") &&'
        f' context.arguments.getTag("text") like "*{"a" * 1000}{number}" }};'
        for number in range(100)
    )
}


async def test_a_draft_says_what_it_would_decide_with_all_that_belongs_to_it() -> None:
    other = replace(CALL, subjects=("list_issues",))
    async with Trials().begun(DRAFT) as begun:
        asked, *permitted = await begun.verdicts([(CALL, 0.0), *[(other, 0.0)] * 120])
    assert (asked.effect, asked.ask, asked.separate, asked.message) == ("ask", ("leads",), True, "r")
    assert asked.limits == (("ask", Limit(3, 86400)),)
    assert [verdict.policies for verdict in permitted] == [("all",)] * 120


async def test_what_does_not_hold_is_told_as_everywhere() -> None:
    with pytest.raises(InvalidInput) as caught:
        async with Trials().begun({"a.cedar": "permit("}):
            pass
    assert caught.value.code == "policy.invalid"
    assert "a.cedar:1" in caught.value.message


async def test_a_draft_that_takes_too_long_is_given_up_and_then_it_is_the_next_ones_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "SECONDS", 3)
    trials = Trials()
    with pytest.raises(InvalidInput) as caught:
        async with trials.begun(SLOW) as begun:
            await begun.verdicts([(CALL, 0.0)])
    assert caught.value.code == "policy.slow"
    async with trials.begun(DRAFT) as begun:
        assert len(await begun.verdicts([(CALL, 0.0)])) == 1


async def test_one_is_tried_at_a_time_and_nobody_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_TURN_SECONDS", 0.2)
    trials = Trials()
    async with trials.begun(DRAFT):
        with pytest.raises(TooMany) as caught:
            async with trials.begun(DRAFT):
                pass
    assert caught.value.code == "policy.busy"


async def test_whoever_stops_asking_leaves_no_process_behind() -> None:
    trials = Trials()
    began = asyncio.Event()

    async def tries() -> None:
        async with trials.begun(SLOW) as begun:
            began.set()
            await begun.verdicts([(CALL, 0.0)])

    task = asyncio.create_task(tries())
    await began.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    async with trials.begun(DRAFT) as begun:
        assert await begun.verdicts([]) == []


def test_a_process_that_may_not_be_nice_tries_policies_all_the_same() -> None:
    """As under a service manager's filter of system calls."""
    script = (
        "import os\n"
        "def nice(_):\n    raise PermissionError\n"
        "os.nice = nice\n"
        "from percall_broker.policy import trial_process\n"
        "trial_process._bound()\n"
        "import resource\n"
        "print(resource.getrlimit(resource.RLIMIT_CPU)[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0
