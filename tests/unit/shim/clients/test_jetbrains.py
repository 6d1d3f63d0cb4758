"""The XML of JetBrains' AI Assistant: both of its layouts, and what is refused."""

from __future__ import annotations

import pytest

from percall.clients import jetbrains
from percall.errors import UsageError

LATER = """
<project version="4">
  <component name="Other"><option name="name" value="not-a-server"/></component>
  <component name="McpProjectServerCommands">
    <commands>
      <McpServerCommand>
        <option name="enabled" value="false"/>
        <option name="name" value="local"/>
        <option name="command" value="npx"/>
        <option name="arguments" value="-y 'a server' --flag"/>
        <option name="env"><map><entry key="TOKEN" value="one"/></map></option>
      </McpServerCommand>
      <McpServerConfigurationProperties><option name="name" value="state-only"/></McpServerConfigurationProperties>
    </commands>
    <urls>
      <McpServerURL>
        <option name="name" value="remote"/>
        <option name="url" value="https://mcp.example.com"/>
        <option name="headers"><map><entry key="Authorization" value="Bearer two"/></map></option>
      </McpServerURL>
    </urls>
  </component>
</project>
"""


def test_local_and_remote_servers_are_read_with_their_variables_and_headers() -> None:
    assert jetbrains.parse(LATER) == {
        "mcpServers": {
            "local": {
                "command": "npx",
                "args": ["-y", "a server", "--flag"],
                "env": {"TOKEN": "one"},
                "disabled": True,
            },
            "remote": {"url": "https://mcp.example.com", "headers": {"Authorization": "Bearer two"}},
        }
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<a>\n<b></a>", "line 2"),
        ('<!DOCTYPE a [<!ENTITY b "ha">]><a>&b;</a>', "entities"),
    ],
)
def test_what_is_not_such_a_file_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        jetbrains.parse(text)
