-- What servers say their tools are, and whose the tasks of remote servers are.

-- Definitions in full, each text once. digest: of its canonical JSON, base64url.
CREATE TABLE tool_definitions (
    server TEXT NOT NULL,
    tool TEXT NOT NULL,
    digest TEXT NOT NULL,
    definition TEXT NOT NULL,               -- canonical JSON
    annotations TEXT NOT NULL,              -- canonical JSON of what policies may read, by their names for it
    created_at BIGINT NOT NULL,
    PRIMARY KEY (server, digest)
);

-- Definitions that are accepted. holder: empty for everybody's; a grant's id for what its laptop saw first.
CREATE TABLE tool_pins (
    server TEXT NOT NULL,
    tool TEXT NOT NULL,
    holder TEXT NOT NULL,
    digest TEXT NOT NULL,
    pinned_at BIGINT NOT NULL,
    pinned_by TEXT NOT NULL,                -- the administrator; empty: the first sight
    PRIMARY KEY (server, tool, holder, digest)
);

-- Each tool as it was last seen: by the broker itself (holder empty: a remote server's), or by a grant's laptop.
CREATE TABLE tool_sightings (
    server TEXT NOT NULL,
    tool TEXT NOT NULL,
    holder TEXT NOT NULL,
    digest TEXT NOT NULL,
    differs TEXT NOT NULL,                  -- which members are not as accepted, by commas; empty: none, or first seen
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (server, tool, holder)
);

-- Which grant a remote server's task was made for: to that server, all grants look like one client.
CREATE TABLE tasks (
    server TEXT NOT NULL,
    task TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (server, task)
);
CREATE INDEX tasks_grant ON tasks (grant_id, server);
