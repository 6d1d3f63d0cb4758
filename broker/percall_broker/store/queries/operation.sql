-- Which replicas serve, what is open, and what is waiting.

-- name: beat(id, url, version, started_at, seen_at)
-- A replica shows that it lives, and that it can write.
INSERT INTO replicas (id, url, version, started_at, seen_at) VALUES (:id, :url, :version, :started_at, :seen_at)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at
RETURNING id

-- name: leave(id, seen_before)
-- A replica ends; those that ended without a word long ago are forgotten with it.
DELETE FROM replicas WHERE id = :id OR seen_at < :seen_before

-- name: list_replicas(seen_since)
SELECT id, url, version, started_at, seen_at FROM replicas WHERE seen_at >= :seen_since ORDER BY started_at, id

-- name: count_open(now_ms)
-- Long reading. Permitted calls without an outcome, and those of them whose window is open.
SELECT COUNT(*) AS calls,
       COALESCE(SUM(CASE WHEN EXISTS (SELECT 1 FROM log r WHERE r.kind = 'redemption' AND r.id = c.id)
                         THEN 1 ELSE 0 END), 0) AS windows
FROM log c
WHERE c.deadline_ms > 0 AND c.deadline_ms >= :now_ms AND c.kind = 'call' AND c.decision = 'permit'
  AND NOT EXISTS (SELECT 1 FROM log o WHERE o.kind = 'outcome' AND o.id = c.id)

-- name: count_deliveries()
SELECT COUNT(*) AS waiting FROM deliveries

-- name: record_event(id, type, time_ms, token, body)
-- No row: it was recorded before, by this replica or another.
INSERT INTO events (id, type, time_ms, token, body) VALUES (:id, :type, :time_ms, :token, :body)
ON CONFLICT DO NOTHING
RETURNING id

-- name: queue_event(id, token)
-- Beside record_event: for every endpoint there is, once, whoever else records the same.
INSERT INTO deliveries (webhook, event)
SELECT w.id, e.id FROM events e CROSS JOIN webhooks w WHERE e.id = :id AND e.token = :token AND w.state = 'active'
ON CONFLICT DO NOTHING

-- name: add_webhook(id, origin, format, created_at, created_by)
INSERT INTO webhooks (id, origin, format, state, created_at, created_by, sender, sender_until, attempts, retry_at, problem)
VALUES (:id, :origin, :format, 'active', :created_at, :created_by, '', 0, 0, 0, '')
RETURNING id

-- name: remove_webhook(id)
UPDATE webhooks SET state = 'removed' WHERE id = :id AND state = 'active' RETURNING id

-- name: forget_deliveries(webhook)
DELETE FROM deliveries WHERE webhook = :webhook

-- name: list_webhooks()
SELECT w.id, w.origin, w.format, w.created_at, w.created_by, w.attempts, w.retry_at, w.problem,
       (SELECT COUNT(*) FROM deliveries d WHERE d.webhook = w.id) AS waiting
FROM webhooks w WHERE w.state = 'active' ORDER BY w.created_at, w.id

-- name: due_webhooks(sender, now_ms)
-- Endpoints for which something waits, whose pause is over, and that no other replica is sending to. A pause or a claim
-- longer than there are was made by a clock that has been put right since.
SELECT w.id FROM webhooks w
WHERE w.state = 'active' AND (w.retry_at <= :now_ms OR w.retry_at > :now_ms + 7200000)
  AND (w.sender = :sender OR w.sender_until <= :now_ms OR w.sender_until > :now_ms + 3600000)
  AND EXISTS (SELECT 1 FROM deliveries d WHERE d.webhook = w.id)
ORDER BY w.id

-- name: claim_webhook(id, sender, now_ms, until_ms)
-- One replica sends to an endpoint, so that order holds. No row: another one does, or its pause is not over.
UPDATE webhooks SET sender = :sender, sender_until = :until_ms
WHERE id = :id AND state = 'active' AND (retry_at <= :now_ms OR retry_at > :now_ms + 7200000)
  AND (sender = :sender OR sender_until <= :now_ms OR sender_until > :now_ms + 3600000)
RETURNING attempts

-- name: next_deliveries(webhook)
-- The one whose turn it is, and some of those after it.
SELECT d.seq, e.id, e.body, w.format
FROM deliveries d JOIN events e ON e.id = d.event JOIN webhooks w ON w.id = d.webhook
WHERE d.webhook = :webhook ORDER BY d.seq LIMIT 10

-- name: delivered(seq)
DELETE FROM deliveries WHERE seq = :seq

-- name: settle_webhook(id, sender, attempts, retry_at, problem)
-- How the last attempt went; another replica may send from now on.
UPDATE webhooks SET sender = '', sender_until = 0, attempts = :attempts, retry_at = :retry_at, problem = :problem
WHERE id = :id AND sender = :sender

-- name: release_webhooks(sender)
-- A replica ends: another one need not wait until its claims have run out.
UPDATE webhooks SET sender = '', sender_until = 0 WHERE sender = :sender

-- name: purge_deliveries(before_ms)
-- Long since undeliverable.
DELETE FROM deliveries WHERE event IN (SELECT id FROM events WHERE time_ms < :before_ms) RETURNING seq

-- name: purge_events(before_ms)
DELETE FROM events WHERE time_ms < :before_ms

-- name: keys_in_use(most_seconds)
-- Long reading. The newest version of each key, and when it ends: as was told of it, else by its age where there is a
-- bound on that (0: none). person is empty for a shared key.
SELECT s.name AS server, '' AS person, k.version, k.created_at,
       CASE WHEN k.expires_at > 0 THEN k.expires_at WHEN :most_seconds > 0 THEN k.created_at + :most_seconds
            ELSE 0 END AS expires_at
FROM servers s JOIN secrets k ON k.name = s.name AND k.version = s.secret_version
WHERE s.state <> 'removed'
UNION ALL
SELECT s.name, p.person, k.version, k.created_at,
       CASE WHEN k.expires_at > 0 THEN k.expires_at WHEN :most_seconds > 0 THEN k.created_at + :most_seconds
            ELSE 0 END
FROM personal_keys p JOIN servers s ON s.name = p.server
JOIN secrets k ON k.name = 'personal/' || p.person || '/' || p.server AND k.version = p.secret_version
WHERE s.state <> 'removed'
ORDER BY 1, 2

-- name: count_standing(now)
-- Long reading. How many of each there are that are not ended.
SELECT (SELECT COUNT(*) FROM persons WHERE state <> 'removed') AS people,
       (SELECT COUNT(*) FROM devices WHERE state = 'active') AS devices,
       (SELECT COUNT(*) FROM grants g WHERE g.state <> 'revoked' AND (g.expires_at = 0 OR g.expires_at > :now)) AS grants,
       (SELECT COUNT(*) FROM servers WHERE state <> 'removed') AS servers

-- name: automations(now)
SELECT id, person, may, expires_at FROM grants
WHERE automation = 1 AND state = 'active' AND (expires_at = 0 OR expires_at > :now) ORDER BY created_at, id

-- name: count_unknown(since_ms)
-- Long reading. Outcomes that nobody reported, or that nobody knew.
SELECT COUNT(*) AS calls FROM log WHERE outcome = 'unknown' AND time_ms >= :since_ms

-- name: last_backup()
-- Long reading.
SELECT time_ms FROM log WHERE kind = 'change' AND reason = 'backup.made' ORDER BY seq DESC LIMIT 1

-- name: expiring_grants(now, until)
-- Long reading. Enrolled, active grants that expire in that time.
SELECT id, person, agent, expires_at FROM grants
WHERE state = 'active' AND device IS NOT NULL AND expires_at > :now AND expires_at <= :until
ORDER BY expires_at, id
