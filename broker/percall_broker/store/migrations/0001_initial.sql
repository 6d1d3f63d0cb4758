-- {sequence} and {bytes} stand for the engine's own words: an ever-growing row number, and a column of bytes.
-- Times are integers: milliseconds since the epoch in the log, seconds elsewhere (names say which).

CREATE TABLE persons (
    name TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE devices (
    thumbprint TEXT PRIMARY KEY,            -- RFC 7638, of the public device key
    person TEXT NOT NULL REFERENCES persons (name),
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- scope: canonical JSON {"servers": {"github": {"tools": ["get_*"], "prompts": [], "resources": []}}}
CREATE TABLE grants (
    id TEXT PRIMARY KEY,
    person TEXT NOT NULL REFERENCES persons (name),
    agent TEXT NOT NULL,
    device TEXT REFERENCES devices (thumbprint),
    administrator INTEGER NOT NULL,
    scope TEXT NOT NULL,
    state TEXT NOT NULL,                    -- active, suspended, revoked
    version BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,             -- seconds; 0: never
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);

CREATE TABLE invites (
    code_hash TEXT PRIMARY KEY,             -- SHA-256 of the code, in hex; the code itself is never stored
    grant_id TEXT NOT NULL REFERENCES grants (id),
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

-- entry: canonical JSON of model.entry.Entry
CREATE TABLE servers (
    name TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    entry TEXT NOT NULL,
    state TEXT NOT NULL,                    -- active, removed
    secret_version BIGINT NOT NULL,         -- 0: no key
    created_at BIGINT NOT NULL
);

CREATE TABLE secrets (
    name TEXT NOT NULL,                     -- the server, or the purpose of one of the broker's own keys
    version BIGINT NOT NULL,
    sealed {bytes} NOT NULL,
    wrapped_key {bytes} NOT NULL,
    key_encryption_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);

-- The record. Append-only: no statement of ours updates or deletes a row.
-- kind: call, redemption, request, outcome, change, reading.
-- id: unique within its kind. A call and a request carry the jti of the proof that asked for them, which is how a
-- replay is refused; a redemption and an outcome carry the call's id, which is how each happens once.
CREATE TABLE log (
    seq {sequence},
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    call TEXT NOT NULL,
    time_ms BIGINT NOT NULL,
    grant_id TEXT NOT NULL,
    person TEXT NOT NULL,
    agent TEXT NOT NULL,
    device TEXT NOT NULL,
    server TEXT NOT NULL,
    tool TEXT NOT NULL,
    decision TEXT NOT NULL,                 -- permit, forbid; empty where nothing was decided
    reason TEXT NOT NULL,
    outcome TEXT NOT NULL,                  -- done, failed, refused, unknown; empty but in an outcome
    duration_ms BIGINT NOT NULL,
    deadline_ms BIGINT NOT NULL,            -- a call still without outcome then is swept to unknown; 0: none
    entry TEXT NOT NULL                     -- canonical JSON (RFC 8785) of all of it
);
CREATE UNIQUE INDEX log_kind_id ON log (kind, id);
CREATE INDEX log_call ON log (call);
CREATE INDEX log_deadline ON log (deadline_ms) WHERE deadline_ms > 0;

-- A call's arguments, sealed; apart from the log, so that they can be erased while the record stands.
CREATE TABLE arguments (
    call TEXT PRIMARY KEY,
    sealed {bytes} NOT NULL
);

-- The jti of signed requests that leave no row in the log, kept until their proofs have expired.
CREATE TABLE proofs (
    jti TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

-- One row; grows with each change of grants or servers, so that every replica notices.
CREATE TABLE epoch (
    id INTEGER PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO epoch (id, value) VALUES (1, 0);
