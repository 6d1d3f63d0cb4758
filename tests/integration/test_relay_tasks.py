"""Tasks of remote servers: all grants share the server's key there, so the broker alone knows whose is whose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from integration.relaying import call, refusal_code, request, settled

if TYPE_CHECKING:
    from harness.remote import Exchange, Remote
    from harness.signing import Answer
    from integration.conftest import Served


def making(task: str, *, nested: bool) -> Any:
    made = {"taskId": task, "status": "working"}
    result = {"task": made} if nested else {"resultType": "task", **made}
    return lambda exchange: exchange.json(exchange.result(result))


def code(answer: Answer) -> str:
    return str(answer.json["error"]["data"]["code"])


@pytest.mark.parametrize("nested", [True, False])
def test_a_task_is_for_the_grant_whose_call_made_it_alone(relayed: Served, remote: Remote, nested: bool) -> None:
    mine, yours = f"task-1-{nested}", f"task-2-{nested}"
    laptop, _ = relayed.enrol("remote")
    thief, _ = relayed.enrol("remote")
    remote.behaviours["get_slow"] = making(mine, nested=nested)
    laptop.relay("remote", call("get_slow"))
    remote.behaviours["get_slow"] = making(yours, nested=nested)
    thief.relay("remote", call("get_slow"))
    remote.seen.clear()

    for method in ("tasks/get", "tasks/result", "tasks/cancel", "tasks/update"):
        assert code(thief.relay("remote", request(method, {"taskId": mine}))) == "task.unknown"
        assert thief.log()[0]["reason"] == "task.unknown"
    assert not remote.seen
    assert "result" in laptop.relay("remote", request("tasks/get", {"taskId": mine})).json
    assert len(remote.seen) == 1


def test_a_list_of_tasks_shows_the_grants_own(relayed: Served, remote: Remote) -> None:
    def listing(exchange: Exchange) -> None:
        exchange.json(exchange.result({"tasks": [{"taskId": "listed-1"}, {"taskId": "listed-2"}, {"other": 1}]}))

    laptop, _ = relayed.enrol("remote")
    other, _ = relayed.enrol("remote")
    remote.behaviours |= {"get_slow": making("listed-1", nested=True), "tasks/list": listing}
    laptop.relay("remote", call("get_slow"))
    assert laptop.relay("remote", request("tasks/list")).json["result"] == {"tasks": [{"taskId": "listed-1"}]}
    assert other.relay("remote", request("tasks/list")).json["result"] == {"tasks": []}


@pytest.mark.parametrize("wrong", [[], {}, 7, None])
def test_a_list_in_which_a_task_has_no_name_shows_the_others(relayed: Served, remote: Remote, wrong: Any) -> None:
    named = f"beside {wrong}"

    def listing(exchange: Exchange) -> None:
        exchange.json(exchange.result({"tasks": [{"taskId": wrong}, {"taskId": named}]}))

    laptop, _ = relayed.enrol("remote")
    remote.behaviours |= {"get_slow": making(named, nested=True), "tasks/list": listing}
    laptop.relay("remote", call("get_slow"))
    assert laptop.relay("remote", request("tasks/list")).json["result"] == {"tasks": [{"taskId": named}]}


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("task", ["a\0b", "x" * 5000], ids=["NUL", "long"])
def test_a_task_that_no_request_can_name_is_no_answer(relayed: Served, remote: Remote, task: str, nested: bool) -> None:
    laptop, _ = relayed.enrol("remote")
    remote.behaviours["get_slow"] = making(task, nested=nested)
    answer = laptop.relay("remote", call("get_slow"))
    assert refusal_code(answer) == "upstream.message"
    settled(laptop, "unknown")


@pytest.mark.parametrize("params", [{}, {"taskId": 7}, {"TaskId": "x"}, {"taskId": ""}])
def test_a_request_that_names_no_task_goes_nowhere(relayed: Served, remote: Remote, params: Any) -> None:
    laptop, _ = relayed.enrol("remote")
    assert laptop.relay("remote", request("tasks/get", params)).status == 400
    assert not remote.seen


def test_a_server_that_names_anothers_task_gives_it_to_nobody(relayed: Served, remote: Remote) -> None:
    remote.behaviours["get_slow"] = making("taken", nested=True)
    laptop, _ = relayed.enrol("remote")
    thief, _ = relayed.enrol("remote")
    laptop.relay("remote", call("get_slow"))
    thief.relay("remote", call("get_slow"))
    assert code(thief.relay("remote", request("tasks/get", {"taskId": "taken"}))) == "task.unknown"
    assert refusal_code(laptop.relay("remote", call("delete_item"))) == "grant.tool"
