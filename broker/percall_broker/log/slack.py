"""An event as a message for a channel, in the form that Slack's incoming webhooks take (and Mattermost's, and others').

It says no more than the event does. Names in it are people's, servers' and agents': each is one short line with what
would not be seen named, and what Slack would read as a mention or a link is escaped or left as it is, as its
documentation asks (https://docs.slack.dev/messaging/formatting-message-text#escaping).
"""

from __future__ import annotations

import json
from typing import Any

from percall_broker.model.marking import visible

_APPROVAL = "approval.requested"
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MOST_CHARACTERS = 2900
"""A section of a message takes 3,000."""
_MOST_OF_A_NAME = 200


def message(body: str) -> str:
    """The message for an event's body (`log.events`)."""
    event = json.loads(body)
    data = event["data"]
    text = _question(data) if event["type"] == _APPROVAL else _any(event["type"], data)
    text = text[:_MOST_CHARACTERS]
    blocks: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}]
    if isinstance(data.get("url"), str):
        button = {"type": "button", "text": {"type": "plain_text", "text": "Look and answer"}, "url": data["url"]}
        blocks.append({"type": "actions", "elements": [button]})
    return json.dumps({"text": text, "blocks": blocks})


def _question(data: dict[str, Any]) -> str:
    who = f"{_plain(data['person'])} ({_plain(data['agent'])})"
    groups = " and ".join(_plain(group) for group in data["groups"] if group) or "an administrator"
    what = f"{_plain(data['tool'])} of {_plain(data['server'])}"
    asks = "asks for a grant of" if data["wanted"] == "grant" else "waits to call"
    return f"*{who}* {asks} *{what}*. It needs {groups}: {_plain(data['approval'])}"


def _any(kind: str, data: dict[str, Any]) -> str:
    told = ", ".join(f"{_plain(name)} {_plain(str(value))}" for name, value in sorted(data.items()) if value)
    return f"*{_plain(kind)}*: {told}"


def _plain(text: str) -> str:
    shown = visible(text)
    shown = shown if len(shown) <= _MOST_OF_A_NAME else shown[: _MOST_OF_A_NAME - 1] + "…"
    return shown.replace("*", "\u2217").replace("`", "'").translate(_ESCAPES)
