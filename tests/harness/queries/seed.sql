-- What the tests need before a call can be recorded, and what they look at after it.

-- name: seed_person(name)
INSERT INTO persons (name, created_at) VALUES (:name, 1)

-- name: seed_device(id, person)
INSERT INTO devices (id, person, name, state, created_at) VALUES (:id, :person, 'laptop', 'active', 1)

-- name: seed_device_key(thumbprint, person, device)
INSERT INTO device_keys (thumbprint, person, device, state, created_at) VALUES (:thumbprint, :person, :device, 'active', 1)

-- name: seed_grant(id, person, device, expires_at)
INSERT INTO grants (id, person, agent, device, administrator, scope, state, version, expires_at, created_at, created_by)
VALUES (:id, :person, 'default', :device, 0, '{}', 'active', 1, :expires_at, 1, 'test')

-- name: seed_administrator(id, person, device)
INSERT INTO grants (id, person, agent, device, administrator, scope, state, version, expires_at, created_at, created_by)
VALUES (:id, :person, 'default', :device, 1, '{}', 'active', 1, 0, 1, 'test')

-- name: seed_server(name)
INSERT INTO servers (name, version, entry, state, secret_version, created_at) VALUES (:name, 1, '{}', 'active', 1, 1)

-- name: seed_revocation(id)
UPDATE grants SET state = 'revoked', version = version + 1 WHERE id = :id AND state <> 'revoked' RETURNING id

-- name: seed_server_change(name)
UPDATE servers SET version = version + 1 WHERE name = :name RETURNING version

-- name: seed_approvals(most)
-- Questions of the grant `g`, numbered from 1.
INSERT INTO approvals (id, kind, state, grant_id, person, agent, device, server, method, tool, subject, arguments, call,
                       session, policies, policy_version, separate, reason, wanted, digest, asked_ms, expires_at)
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :most)
SELECT 'ap' || n, 'call', 'pending', 'g', 'alice', 'default', 'laptop', 'github', 'tools/call', 'merge', 'ap' || n, 'd',
       'c' || n, '', '[]', 1, 0, '', '', 'seen', 10000, 3600
FROM numbers

-- name: seed_approval_groups(group_name)
INSERT INTO approval_groups (approval, group_name) SELECT a.id, :group_name FROM approvals a

-- name: list_log(after, limit)
-- Long reading. The rows of the log, from after one on.
SELECT seq, id FROM log WHERE seq > :after ORDER BY seq LIMIT :limit

-- name: count_pending_approvals(now)
SELECT COUNT(*) AS pending FROM approvals WHERE state = 'pending' AND expires_at > :now

-- name: seed_end(id, expires_at)
UPDATE grants SET expires_at = :expires_at WHERE id = :id RETURNING id

-- name: seed_automation(id)
UPDATE grants SET automation = 1 WHERE id = :id RETURNING id
