-- The console: links into it, its sessions, and passkeys, which are presence in a browser.

-- One-time links, made by a signed request. purpose: sign-in, or enrol (made with the person's presence).
CREATE TABLE console_links (
    code_hash TEXT PRIMARY KEY,             -- SHA-256 of the code, in hex; the code itself is never stored
    grant_id TEXT NOT NULL REFERENCES grants (id),
    purpose TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

-- Who is signed in. A session acts for one administrator's grant, and ends with it.
CREATE TABLE console_sessions (
    token_hash TEXT PRIMARY KEY,
    grant_id TEXT NOT NULL REFERENCES grants (id),
    how TEXT NOT NULL,                      -- link, passkey, provider
    may_enrol_until BIGINT NOT NULL,        -- a passkey may be enrolled until then; 0: never
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- A second kind of presence beside presence_keys; one person may have several. id, public_key (COSE) are base64url.
CREATE TABLE passkeys (
    id TEXT PRIMARY KEY,
    person TEXT NOT NULL REFERENCES persons (name),
    name TEXT NOT NULL,
    public_key TEXT NOT NULL,
    sign_count BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL                 -- 0: never
);
CREATE INDEX passkeys_person ON passkeys (person);

-- The console looks at the calls of the last hours, and replaying policies at those of the last days.
CREATE INDEX log_call_time ON log (time_ms) WHERE kind = 'call';
