-- Grants, invites and servers: what administrators change, and what enrolment binds.
-- Each change is one transaction that begins with `advance_epoch`, whose row makes changes wait for one another.

-- name: add_grant(id, person, agent, administrator, automation, may, scope, expires_at, created_at, created_by, claimable)
-- No row: a server that it names is not there.
INSERT INTO grants (id, person, agent, device, administrator, automation, may, scope, state, version, expires_at,
    created_at, created_by, claimable)
VALUES (:id, :person, :agent, NULL, :administrator, :automation, :may, :scope, 'active', 1, :expires_at,
    :created_at, :created_by, :claimable)
RETURNING id

-- name: known_server(name)
-- Required before add_grant, for each server that the grant names.
SELECT name FROM servers WHERE name = :name AND state <> 'removed'

-- name: bind_grant(id, device, agent)
-- A grant is bound to one device key, once. An agent that the administrator named stays.
UPDATE grants SET device = :device, agent = CASE WHEN agent = '' THEN :agent ELSE agent END, version = version + 1
WHERE id = :id AND device IS NULL AND state = 'active'
  AND EXISTS (SELECT 1 FROM persons p WHERE p.name = grants.person AND p.state = 'active')
RETURNING id

-- name: set_grant_state(id, state)
-- A revocation is final. No row: there is no such grant, it is in that state already, or it is revoked.
UPDATE grants SET state = :state, version = version + 1
WHERE id = :id AND state <> :state AND state <> 'revoked'
RETURNING id

-- name: list_grants()
SELECT {grant_columns}, {freeze_columns}
{grant_tables}
ORDER BY g.created_at, g.id

-- name: add_invite(code_hash, grant_id, expires_at)
INSERT INTO invites (code_hash, grant_id, expires_at, used_at) VALUES (:code_hash, :grant_id, :expires_at, NULL)

-- name: read_invite(code_hash)
SELECT grant_id, expires_at, COALESCE(used_at, 0) AS used_at FROM invites WHERE code_hash = :code_hash

-- name: use_invite(code_hash, now)
-- Once. No row: unknown, used, or expired.
UPDATE invites SET used_at = :now WHERE code_hash = :code_hash AND used_at IS NULL AND expires_at > :now
RETURNING grant_id

-- name: add_server(name, entry, secret_version, created_at)
-- A removed server's name may be used again; its version goes on, so that nothing decided on the old one holds.
INSERT INTO servers (name, version, entry, state, secret_version, created_at)
VALUES (:name, 1, :entry, 'active', :secret_version, :created_at)
ON CONFLICT (name) DO UPDATE SET entry = excluded.entry, state = 'active', version = servers.version + 1,
    secret_version = excluded.secret_version, created_at = excluded.created_at
WHERE servers.state = 'removed'
RETURNING version

-- name: update_server(name, entry)
UPDATE servers SET entry = :entry, version = version + 1 WHERE name = :name AND state <> 'removed' RETURNING version

-- name: remove_server(name)
UPDATE servers SET state = 'removed', version = version + 1 WHERE name = :name AND state <> 'removed' RETURNING version

-- name: set_server_state(name, state)
-- No row: there is no such server, or it is in that state already.
UPDATE servers SET state = :state, version = version + 1
WHERE name = :name AND state <> :state AND state <> 'removed'
RETURNING version

-- name: set_secret_version(name, secret_version)
-- The version of the entry stays: a new key changes nothing that was decided on, so no call fails.
UPDATE servers SET secret_version = :secret_version WHERE name = :name AND state <> 'removed' RETURNING name

-- name: list_servers()
SELECT s.name, s.version, s.entry, s.state, s.secret_version, s.created_at,
       COALESCE(k.created_at, 0) AS secret_created_at, COALESCE(k.expires_at, 0) AS secret_expires_at,
       {freeze_columns}
FROM servers s LEFT JOIN secrets k ON k.name = s.name AND k.version = s.secret_version
LEFT JOIN freezes f ON f.kind = 'server' AND f.name = s.name
WHERE s.state <> 'removed'
ORDER BY s.name

-- name: calls_after(seq, limit)
-- Long reading. Calls in the order they were recorded, for `log tail`.
SELECT c.seq, c.id AS call, c.time_ms, c.grant_id, c.person, c.agent, c.device, COALESCE(d.name, '') AS device_name,
       c.server, c.tool, c.decision, c.reason, COALESCE(o.outcome, '') AS outcome,
       COALESCE(o.duration_ms, 0) AS duration_ms, c.approval,
       COALESCE((SELECT MIN(n.answered_by) FROM approval_groups n WHERE n.approval = c.approval), '') AS approver
FROM log c LEFT JOIN log o ON o.kind = 'outcome' AND o.id = c.id
     LEFT JOIN device_keys k ON k.thumbprint = c.device LEFT JOIN devices d ON d.id = k.device
WHERE c.kind = 'call' AND c.seq > :seq
ORDER BY c.seq LIMIT :limit

-- name: stopped_itself(action, server, details, person)
-- Required where an automation lets something go on: the newest entry that stopped it is an automation's of this name.
-- An entry is canonical JSON, so a key and what follows it stand in it nowhere but where they are meant: within a text,
-- a quotation mark has a backslash before it. REPLACE, since LIKE takes `_` for anything, and on SQLite `a` for `A`.
SELECT s.person FROM (
    SELECT l.person, l.entry FROM log l
    WHERE l.kind = 'change' AND l.reason = :action AND l.server = :server AND REPLACE(l.entry, :details, '') <> l.entry
    ORDER BY l.seq DESC LIMIT 1
) s
WHERE s.person = :person AND REPLACE(s.entry, '"presence":"automation"', '') <> s.entry

-- name: list_changes(since_ms, until_ms, limit)
-- Long reading. What administrators changed and which arguments they read, newest first; 0 filters nothing. `+seq`
-- keeps both engines from going through all of the log in its order: these are few.
SELECT entry FROM log
WHERE kind IN ('change', 'reading') AND time_ms >= :since_ms AND (:until_ms = 0 OR time_ms < :until_ms)
ORDER BY +seq DESC LIMIT :limit
