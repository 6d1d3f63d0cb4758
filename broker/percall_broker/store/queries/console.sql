-- The console: links, sessions, passkeys, and what its pages show.

-- name: add_console_link(code_hash, grant_id, purpose, expires_at)
INSERT INTO console_links (code_hash, grant_id, purpose, expires_at, used_at)
VALUES (:code_hash, :grant_id, :purpose, :expires_at, NULL)

-- name: use_console_link(code_hash, now)
-- Once. No row: unknown, used, or expired.
UPDATE console_links SET used_at = :now WHERE code_hash = :code_hash AND used_at IS NULL AND expires_at > :now
RETURNING grant_id, purpose

-- name: add_console_session(token_hash, grant_id, how, passkey, may_enrol_until, now, expires_at)
INSERT INTO console_sessions (token_hash, grant_id, how, passkey, may_enrol_until, created_at, seen_at, expires_at)
VALUES (:token_hash, :grant_id, :how, :passkey, :may_enrol_until, :now, :now, :expires_at)

-- name: read_console_session(token_hash, now, seen_since)
SELECT token_hash, grant_id, how, may_enrol_until, seen_at FROM console_sessions
WHERE token_hash = :token_hash AND expires_at > :now AND seen_at > :seen_since

-- name: see_console_session(token_hash, now)
UPDATE console_sessions SET seen_at = :now WHERE token_hash = :token_hash AND seen_at < :now

-- name: close_enrolment(token_hash, now)
-- Required where a passkey is enrolled: once a link, and while its grant stands. No row: this session may not (any more).
UPDATE console_sessions SET may_enrol_until = 0
WHERE token_hash = :token_hash AND may_enrol_until > :now
  AND EXISTS (SELECT 1 FROM grants g WHERE g.id = console_sessions.grant_id AND g.state = 'active')
RETURNING token_hash

-- name: end_console_session(token_hash)
DELETE FROM console_sessions WHERE token_hash = :token_hash

-- name: forget_console(now, seen_since)
DELETE FROM console_sessions WHERE expires_at <= :now OR seen_at <= :seen_since

-- name: forget_console_links(now)
DELETE FROM console_links WHERE expires_at <= :now

-- name: add_passkey(id, person, name, public_key, now)
-- No row: it is somebody's already.
INSERT INTO passkeys (id, person, name, public_key, sign_count, created_at, used_at)
VALUES (:id, :person, :name, :public_key, 0, :now, 0) ON CONFLICT DO NOTHING
RETURNING id

-- name: list_passkeys(person)
-- An empty name: everybody's.
SELECT id, person, name, created_at, used_at FROM passkeys
WHERE :person = '' OR person = :person ORDER BY person, created_at, id

-- name: read_passkey(id)
SELECT id, person, public_key, sign_count FROM passkeys WHERE id = :id

-- name: use_passkey(id, person, sign_count, now)
-- Required where it has signed. No row: it is gone, or its counter did not rise, which a copy of it shows.
UPDATE passkeys SET sign_count = :sign_count, used_at = :now
WHERE id = :id AND person = :person AND (sign_count < :sign_count OR (sign_count = 0 AND :sign_count = 0))
RETURNING id

-- name: hold_passkey(id, person)
-- Required where it opens a session. What forgets it waits until the session is there to be ended.
SELECT k.id FROM passkeys k WHERE k.id = :id AND k.person = :person
/*+ FOR SHARE */

-- name: remove_passkey(id)
DELETE FROM passkeys WHERE id = :id RETURNING person, name

-- name: end_sessions_of_passkey(id)
DELETE FROM console_sessions WHERE passkey = :id AND passkey <> ''

-- name: remove_passkeys(person)
DELETE FROM passkeys WHERE person = :person

-- name: remove_former_passkeys(person)
-- Before add_person: what a removed person left is not for whoever has the name next.
DELETE FROM passkeys WHERE person IN (SELECT p.name FROM persons p WHERE p.name = :person AND p.state = 'removed')

-- name: grant_to_sign_in(person, now)
-- One that a person uses: one with which they administer, else the newest.
SELECT g.id FROM grants g
JOIN persons p ON p.name = g.person JOIN device_keys k ON k.thumbprint = g.device JOIN devices d ON d.id = k.device
WHERE g.person = :person AND g.automation = 0 AND g.state = 'active' AND (g.expires_at = 0 OR g.expires_at > :now)
  AND p.state = 'active' AND k.state = 'active' AND d.state = 'active'
  AND NOT EXISTS (SELECT 1 FROM freezes f WHERE f.kind = 'device' AND f.name = d.id)
ORDER BY g.administrator DESC, g.created_at DESC, g.id LIMIT 1

-- name: calls_by_bucket(since_ms, bucket_ms)
-- Long reading. How many calls there were in each stretch of time, and how many of them failed.
SELECT c.time_ms / :bucket_ms AS bucket, c.decision, COUNT(*) AS calls,
       COALESCE(SUM(CASE WHEN o.outcome IN ('failed', 'unknown') THEN 1 ELSE 0 END), 0) AS failed
FROM log c LEFT JOIN log o ON o.kind = 'outcome' AND o.id = c.id
WHERE c.kind = 'call' AND c.time_ms >= :since_ms
GROUP BY 1, 2

-- name: durations_by_bucket(since_ms, bucket_ms)
-- Long reading. How often a call took how long, in each stretch of time.
SELECT c.time_ms / :bucket_ms AS bucket, o.duration_ms, COUNT(*) AS calls
FROM log c JOIN log o ON o.kind = 'outcome' AND o.id = c.id
WHERE c.kind = 'call' AND c.time_ms >= :since_ms AND o.outcome IN ('done', 'failed')
GROUP BY 1, 2 ORDER BY 1, 2

-- name: most_called_tools(since_ms, limit)
-- Long reading.
SELECT c.server, c.tool, COUNT(*) AS calls, SUM(CASE WHEN c.decision = 'forbid' THEN 1 ELSE 0 END) AS refused
FROM log c WHERE c.kind = 'call' AND c.time_ms >= :since_ms AND c.tool <> ''
GROUP BY c.server, c.tool ORDER BY 3 DESC, c.server, c.tool LIMIT :limit

-- name: last_uses(since_ms)
-- Long reading. When each grant was last used, and how often.
SELECT c.grant_id, MAX(c.time_ms) AS last_ms, COUNT(*) AS calls
FROM log c WHERE c.kind = 'call' AND c.time_ms >= :since_ms GROUP BY c.grant_id

-- name: console_mark()
-- How far the log, the questions and the changes have got; answers are changes.
SELECT (SELECT COALESCE(MAX(l.seq), 0) FROM log l) AS recorded,
       (SELECT COALESCE(MAX(a.seq), 0) FROM approvals a) AS asked,
       (SELECT e.value FROM epoch e WHERE e.id = 1) AS changed
