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
