"""What a config launches, in the forms that people paste."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percall.clients.launches import fits, launched


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("npx -y @modelcontextprotocol/server-github", "npm:@modelcontextprotocol/server-github"),
        ("npx -y tavily-mcp@latest", "npm:tavily-mcp"),
        ("npx --yes --package=@scope/a@1.2.3 a-command", "npm:@scope/a"),
        ("npx -p @scope/a a-command --key x", "npm:@scope/a"),
        ("npx --registry https://registry.example tavily-mcp", "npm:tavily-mcp"),
        ("C:\\Program_Files\\nodejs\\npx.cmd -y tavily-mcp", "npm:tavily-mcp"),
        ("cmd /c npx -y tavily-mcp", "npm:tavily-mcp"),
        ("env KEY=x npx -y tavily-mcp", "npm:tavily-mcp"),
        ("bunx tavily-mcp", "npm:tavily-mcp"),
        ("pnpm dlx tavily-mcp", "npm:tavily-mcp"),
        ("npm exec -- tavily-mcp", "npm:tavily-mcp"),
        ("node /home/a/node_modules/@scope/server/dist/index.js", "npm:@scope/server"),
        ("node ./build/index.js", ""),
        ("uvx mcp-atlassian", "pypi:mcp-atlassian"),
        ("uvx --from mcp_server.time[all]==1.2 mcp-time --local-timezone UTC", "pypi:mcp-server-time"),
        ("uvx --python 3.12 mcp-atlassian@latest", "pypi:mcp-atlassian"),
        ("uv tool run mcp-atlassian", "pypi:mcp-atlassian"),
        ("uvx --from git+https://github.com/a/b b", ""),
        ("pipx run --spec mcp-atlassian==1 mcp", "pypi:mcp-atlassian"),
        ("python -m mcp_server_time", "pypi:mcp-server-time"),
        ("python server.py", ""),
        ("docker run -i --rm -e TOKEN ghcr.io/github/github-mcp-server:v1", "docker:ghcr.io/github/github-mcp-server"),
        ("docker run --rm -i --env=A=b localhost:5000/a/b@sha256:0", "docker:localhost:5000/a/b"),
        ("podman run -v /a:/b mcp/notion stdio", "docker:mcp/notion"),
        ("npx mcp-remote https://mcp.linear.app/sse?key=x --header A:b", "https://mcp.linear.app/sse"),
        ("npx mcp-remote", "npm:mcp-remote"),
        ("/usr/local/bin/slack-mcp-server --transport stdio", "program:slack-mcp-server"),
        ("npx", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_a_launch_is_recognised_in_every_form_that_people_paste(command: str, expected: str) -> None:
    assert launched(command.split()) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://MCP.Linear.app/mcp/", "https://mcp.linear.app/mcp"),
        ("https://user:secret@mcp.example:8443/mcp?api_key=secret#x", "https://mcp.example:8443/mcp"),
        ("ftp://mcp.example", ""),
        ("https://[", ""),
        ("https://mcp.example:99999/", ""),
    ],
)
def test_a_url_is_taken_without_what_could_be_a_secret(url: str, expected: str) -> None:
    assert launched((), url) == expected


def test_a_shells_one_line_is_read_too() -> None:
    assert launched(["sh", "-c", "npx -y tavily-mcp"]) == "npm:tavily-mcp"


@given(st.lists(st.text(max_size=20), max_size=6), st.text(max_size=40))
def test_no_config_makes_it_fail(command: list[str], url: str) -> None:
    assert isinstance(launched(command, url), str)


def test_a_url_is_recognised_with_what_lies_below_it_and_no_other_host() -> None:
    known = ("https://mcp.example/mcp",)
    assert fits("https://mcp.example/mcp", known)
    assert fits("https://mcp.example/mcp/x", known)
    assert not fits("https://mcp.example/mcp-other", known)
    assert not fits("https://mcp.example.evil/mcp", known)
