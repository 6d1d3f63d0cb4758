-- A backup must not un-revoke. The first ones run in the transaction that fills a store from a backup.

-- name: mark_restored_grants()
INSERT INTO restored_grants (grant_id, version)
SELECT id, version + 1 FROM grants WHERE state = 'active'
ON CONFLICT (grant_id) DO UPDATE SET version = excluded.version

-- name: suspend_restored_grants()
UPDATE grants SET state = 'suspended', version = version + 1 WHERE state = 'active'

-- name: expire_restored_invites(now)
-- One that was used after the backup would be unused again.
UPDATE invites SET expires_at = :now WHERE used_at IS NULL AND expires_at > :now

-- name: end_restored_approvals()
-- One that was used, denied or taken back after the backup would be open again. What is refused for good stays so.
UPDATE approvals SET state = 'ended' WHERE state IN ('pending', 'allowed')

-- name: end_restored_allowances()
UPDATE lasting_answers SET state = 'ended' WHERE state = 'active' AND effect = 'allow'

-- name: forget_restored_links()
-- As the invites: one that was opened after the backup would be unopened again.
DELETE FROM console_links

-- name: forget_restored_sessions()
-- Somebody who has signed out since would be signed in again.
DELETE FROM console_sessions

-- name: expect_no_restored_accounts()
-- One that was tied after the backup would be expected again.
UPDATE persons SET account_until = 0

-- name: forget_restored_keys()
-- Made anew at the next start: what was captured under the old nonces and credentials opens nothing here.
DELETE FROM secrets WHERE name IN ('broker/nonce', 'broker/credential')

-- name: add_restore(restored_at, backup_created_at)
INSERT INTO restores (restored_at, backup_created_at, log_until_ms)
SELECT :restored_at, :backup_created_at, COALESCE(MAX(time_ms), 0) FROM log

-- name: forget_restored_replicas()
DELETE FROM replicas

-- name: forget_restored_deliveries()
-- They were sent long ago.
DELETE FROM deliveries

-- name: last_restore()
SELECT restored_at, backup_created_at, log_until_ms FROM restores ORDER BY seq DESC LIMIT 1

-- name: grants_to_review()
-- Long reading. Grants that a restore suspended and nobody has changed since, with their use up to the backup: permitted calls.
SELECT r.grant_id, COUNT(l.seq) AS calls, COALESCE(MAX(l.time_ms), 0) AS last_call_ms
FROM restored_grants r JOIN grants g ON g.id = r.grant_id AND g.version = r.version AND g.state = 'suspended'
LEFT JOIN log l ON l.grant_id = r.grant_id AND l.kind = 'call' AND l.decision = 'permit'
GROUP BY r.grant_id

-- name: resume_restored_grant(id)
-- No row: it is not one of them, or somebody has changed it meanwhile.
UPDATE grants SET state = 'active', version = version + 1
WHERE id = :id AND state = 'suspended'
  AND version = (SELECT r.version FROM restored_grants r WHERE r.grant_id = :id)
RETURNING id
