-- Policies: what is in force, and how often those with a limit were used.

-- name: read_policies(version)
SELECT version, files, message, created_at, created_by FROM policies WHERE version = :version

-- name: list_policies()
SELECT version, message, created_at, created_by FROM policies ORDER BY version DESC

-- name: newest_policies()
SELECT COALESCE(MAX(version), 0) AS version FROM policies

-- name: add_policies(version, files, message, created_at, created_by)
-- No row: somebody else added that version meanwhile.
INSERT INTO policies (version, files, message, created_at, created_by)
SELECT :version, :files, :message, :created_at, :created_by
WHERE :version = (SELECT COALESCE(MAX(p.version), 0) + 1 FROM policies p)
ON CONFLICT DO NOTHING
RETURNING version

-- name: groups_of(person)
SELECT group_name AS name FROM group_members WHERE person = :person ORDER BY group_name

-- name: lock_limit(policy, person)
-- Before use_limit, in its transaction: whoever counts waits here for whoever counted before.
INSERT INTO limits (policy, person, used) VALUES (:policy, :person, 1)
ON CONFLICT (policy, person) DO UPDATE SET used = limits.used + 1
RETURNING used

-- name: use_limit(policy, person, call, time_ms, since_ms, most)
-- One use more. No row: the limit is reached.
INSERT INTO limit_uses (policy, person, time_ms, call)
SELECT :policy, :person, :time_ms, :call
WHERE (SELECT COUNT(*) FROM limit_uses u WHERE u.policy = :policy AND u.person = :person AND u.time_ms > :since_ms) < :most
ON CONFLICT DO NOTHING
RETURNING call

-- name: read_limit(policy, person, since_ms)
-- How often it was used since then, and when first.
SELECT COUNT(*) AS uses, COALESCE(MIN(u.time_ms), 0) AS first_ms FROM limit_uses u
WHERE u.policy = :policy AND u.person = :person AND u.time_ms > :since_ms

-- name: forget_limit_uses(before_ms)
DELETE FROM limit_uses WHERE time_ms < :before_ms

-- name: calls_to_replay(since_ms, after, limit)
-- Long reading. Recorded calls with what they were decided on, oldest first.
SELECT c.seq, c.id AS call, c.time_ms, c.grant_id, c.person, c.agent, COALESCE(d.name, '') AS device_name,
       c.server, c.tool, c.decision, c.reason, c.entry, a.sealed
FROM log c LEFT JOIN arguments a ON a.call = c.id
LEFT JOIN device_keys k ON k.thumbprint = c.device LEFT JOIN devices d ON d.id = k.device
WHERE c.kind = 'call' AND c.time_ms >= :since_ms AND c.seq > :after
ORDER BY c.seq LIMIT :limit
