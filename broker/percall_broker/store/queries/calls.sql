-- The statements on the path of a call. One SQL for both engines; `/*+ … */` is what PostgreSQL alone reads.
--
-- Each write is one conditional statement: it checks, in the transaction that makes it durable, that the grant is
-- active, that nothing else stops it (`standing`, see 0002_people.sql), and that what was decided on is still so.
-- A condition that is unmet returns no row. Never an error.
--
-- `+c.deadline_ms` keeps SQLite from weighing the partial index on that column: it would look at the parameter's value
-- for that, and so plan the whole statement anew each time, which costs ten times as much as running it.

-- part: as_decided
-- The grant `g` and the server `s` are as they were decided on, and nothing stops the one at the other.
g.state = 'active' AND g.version = :grant_version AND (g.expires_at = 0 OR g.expires_at > :now)
  AND s.version = :server_version
  AND EXISTS (
    SELECT 1 FROM standing t WHERE t.grant_id = g.id AND t.server = s.name AND (t.sign_in_until = 0 OR t.sign_in_until > :now)
  )

-- part: usable_key
-- The key that was decided on, or a newer version of it, is there for the grant `g` at the server `s`.
EXISTS (
    SELECT 1 FROM usable_keys k
    WHERE k.server = s.name AND k.owner = :secret_owner AND k.version >= :secret_version AND k.owner IN ('', g.person)
      AND k.thumbprint IN ('', g.device) AND k.binding IN ('', :binding)
  )

-- part: freeze_columns
f.kind AS frozen_kind, f.name AS frozen_name, f.reason AS frozen_reason, f.created_by AS frozen_by,
       f.created_at AS frozen_at

-- part: grant_columns
g.id, g.person, g.agent, COALESCE(g.device, '') AS device, COALESCE(d.name, '') AS device_name,
       g.administrator, g.scope, g.state, g.version, g.expires_at, g.created_at, g.created_by,
       g.claimable, g.group_grant, g.automation, g.may, p.state AS person_state, p.sign_in_until,
       COALESCE(d.id, '') AS device_id, COALESCE(d.state, '') AS device_state

-- part: grant_tables
-- What stops a grant; of several freezes the narrowest (person, device, all).
FROM grants g JOIN persons p ON p.name = g.person
LEFT JOIN device_keys k ON k.thumbprint = g.device LEFT JOIN devices d ON d.id = k.device
LEFT JOIN freezes f ON (f.kind, f.name) = (
    SELECT n.kind, n.name FROM freezes n
    WHERE n.kind = 'all' OR (n.kind = 'person' AND n.name = g.person) OR (n.kind = 'device' AND n.name = k.device)
    ORDER BY n.kind DESC LIMIT 1
)

-- part: vouched
(SELECT COUNT(*) FROM vouched_device_keys v WHERE v.thumbprint = g.device AND v.person = g.person) AS vouched

-- name: read_grant(id)
-- In whatever state it is, and what stops it.
SELECT {grant_columns}, {freeze_columns}, {vouched}
{grant_tables}
WHERE g.id = :id

-- name: read_grants(grants)
-- The same of a JSON object's names.
SELECT {grant_columns}, {freeze_columns}, {vouched}
{grant_tables}
WHERE g.id IN (SELECT i.key FROM json_each(:grants) i)

-- name: held_by(persons)
-- What of some people's, a JSON object's names, is a part of each of their grants, whose versions a change of it raises:
-- their own keys, their groups, and what their agents may never do. One reading for all of it, since each is a way to
-- the database and back.
SELECT 'key' AS what, person, server, '' AS tool, binding AS name, secret_version AS version
FROM personal_keys WHERE person IN (SELECT i.key FROM json_each(:persons) i) AND state = 'active'
UNION ALL SELECT 'group', person, '', '', group_name, 0
FROM group_members WHERE person IN (SELECT i.key FROM json_each(:persons) i)
UNION ALL SELECT 'never', person, server, tool, id, 0
FROM lasting_answers WHERE person IN (SELECT i.key FROM json_each(:persons) i) AND effect = 'never' AND state = 'active'

-- name: read_server(name)
SELECT s.name, s.version, s.entry, s.state, s.secret_version,
       (SELECT COALESCE(MAX(p.version), 0) FROM policies p) AS policy_version,
       {freeze_columns}
FROM servers s LEFT JOIN freezes f ON f.kind = 'server' AND f.name = s.name
WHERE s.name = :name

-- name: read_epoch()
SELECT value FROM epoch WHERE id = 1

-- name: advance_epoch()
-- In the transaction of each change of grants or servers, so that every replica notices: PostgreSQL tells those who
-- listen when the transaction is committed.
UPDATE epoch SET value = value + 1 WHERE id = 1 RETURNING value
/*+ , pg_notify('percall_changes', '') IS NULL AS told */

-- name: record_call(id, time_ms, grant_id, grant_version, person, agent, device, server, server_version, tool, reason, deadline_ms, approval, entry, now, secret_owner, secret_version, binding)
-- The intent of a permitted call, and the key that it carries itself (version 0: none). No row: the grant, the entry or
-- the key is not as it was decided on, or the id is a replay.
INSERT INTO log (kind, id, call, time_ms, grant_id, person, agent, device, server, tool,
                 decision, reason, outcome, duration_ms, deadline_ms, approval, entry, secret_owner, secret_version)
SELECT 'call', :id, :id, :time_ms, g.id, :person, :agent, :device, s.name, :tool,
       'permit', :reason, '', 0, :deadline_ms, :approval, :entry, :secret_owner, :secret_version
FROM grants g CROSS JOIN servers s
WHERE g.id = :grant_id AND g.device = :device AND s.name = :server AND {as_decided}
  AND (CAST(:secret_version AS BIGINT) = 0 OR {usable_key})
/*+ FOR SHARE OF g, s */
ON CONFLICT DO NOTHING
RETURNING seq

-- name: record_refusal(id, time_ms, grant_id, person, agent, device, server, tool, reason, approval, entry)
-- A call that was forbidden. No row: the id is a replay.
INSERT INTO log (kind, id, call, time_ms, grant_id, person, agent, device, server, tool,
                 decision, reason, outcome, duration_ms, deadline_ms, approval, entry)
VALUES ('call', :id, :id, :time_ms, :grant_id, :person, :agent, :device, :server, :tool,
        'forbid', :reason, '', 0, 0, :approval, :entry)
ON CONFLICT DO NOTHING
RETURNING seq

-- name: store_arguments(call, entry, sealed)
-- Only with the record made from the same entry: never over the arguments of another call, nor of none.
INSERT INTO arguments (call, sealed)
SELECT c.id, :sealed FROM log c WHERE c.kind = 'call' AND c.id = :call AND c.entry = :entry
ON CONFLICT DO NOTHING
RETURNING call

-- name: calls_with_arguments(since_ms, before_ms, limit)
-- Long reading. The oldest calls of that time that still have them.
SELECT c.id AS call, c.time_ms FROM log c JOIN arguments a ON a.call = c.id
WHERE c.kind = 'call' AND c.time_ms >= :since_ms AND c.time_ms < :before_ms
ORDER BY c.time_ms LIMIT :limit

-- name: erase_arguments(call)
DELETE FROM arguments WHERE call = :call RETURNING call

-- name: redeem(call, time_ms, grant_id, grant_version, device, server, entry, now)
-- Uses a call credential, once. No row: used already, settled, past its deadline, or the grant is not as it was.
INSERT INTO log (kind, id, call, time_ms, grant_id, person, agent, device, server, tool,
                 decision, reason, outcome, duration_ms, deadline_ms, entry)
SELECT 'redemption', c.id, c.id, :time_ms, c.grant_id, c.person, c.agent, c.device, c.server, c.tool,
       '', 'credential.redeemed', '', 0, 0, :entry
FROM log c JOIN grants g ON g.id = c.grant_id
WHERE c.kind = 'call' AND c.id = :call AND c.decision = 'permit' AND +c.deadline_ms > :time_ms
  AND c.grant_id = :grant_id AND c.device = :device AND c.server = :server
  AND g.state = 'active' AND g.version = :grant_version AND (g.expires_at = 0 OR g.expires_at > :now)
  AND EXISTS (
    SELECT 1 FROM standing t WHERE t.grant_id = g.id AND t.server = c.server AND (t.sign_in_until = 0 OR t.sign_in_until > :now)
  )
  AND NOT EXISTS (SELECT 1 FROM log o WHERE o.kind = 'outcome' AND o.id = :call)
/*+ FOR SHARE OF g */
ON CONFLICT DO NOTHING
RETURNING seq

-- name: lock_call(call)
-- Before record_request, in its transaction: whoever counts a call's requests waits here for whoever counted before,
-- on whatever replica.
SELECT seq FROM log WHERE kind = 'call' AND id = :call
/*+ FOR UPDATE */

-- name: record_request(id, call, time_ms, grant_id, grant_version, device, server, server_version, reason, entry, now, max_requests, secret_owner, secret_version, carried_version, binding)
-- The intent of an API request in an open window: redeemed, not settled, before its deadline, within its bound.
-- carried_version: secret_version; 0 where the key is left out, since the placeholder stands in no slot.
INSERT INTO log (kind, id, call, time_ms, grant_id, person, agent, device, server, tool,
                 decision, reason, outcome, duration_ms, deadline_ms, entry, secret_owner, secret_version)
SELECT 'request', :id, c.id, :time_ms, c.grant_id, c.person, c.agent, c.device, c.server, c.tool,
       'permit', :reason, '', 0, 0, :entry, :secret_owner, :carried_version
FROM log c JOIN grants g ON g.id = c.grant_id JOIN servers s ON s.name = c.server
WHERE c.kind = 'call' AND c.id = :call AND c.decision = 'permit' AND +c.deadline_ms > :time_ms
  AND c.grant_id = :grant_id AND c.device = :device AND c.server = :server
  AND {as_decided} AND {usable_key}
  AND EXISTS (SELECT 1 FROM log r WHERE r.kind = 'redemption' AND r.id = :call)
  AND NOT EXISTS (SELECT 1 FROM log o WHERE o.kind = 'outcome' AND o.id = :call)
  AND (SELECT COUNT(*) FROM log q WHERE q.call = :call AND q.id <> q.call AND q.kind = 'request' AND q.decision = 'permit') < :max_requests
/*+ FOR SHARE OF g, s */
ON CONFLICT DO NOTHING
RETURNING seq

-- name: record_request_of_no_call(id, time_ms, grant_id, grant_version, person, agent, device, server, server_version, tool, reason, entry, now, secret_owner, secret_version, carried_version, binding)
-- The intent of a request that belongs to no call: one that the entry lists for a server's start, or a message to a
-- remote server (its tool is the message's method).
INSERT INTO log (kind, id, call, time_ms, grant_id, person, agent, device, server, tool,
                 decision, reason, outcome, duration_ms, deadline_ms, entry, secret_owner, secret_version)
SELECT 'request', :id, '', :time_ms, g.id, :person, :agent, :device, s.name, :tool,
       'permit', :reason, '', 0, 0, :entry, :secret_owner, :carried_version
FROM grants g CROSS JOIN servers s
WHERE g.id = :grant_id AND g.device = :device AND s.name = :server AND {as_decided}
  AND (CAST(:secret_version AS BIGINT) = 0 OR {usable_key})
/*+ FOR SHARE OF g, s */
ON CONFLICT DO NOTHING
RETURNING seq

-- name: record_request_refusal(id, call, time_ms, grant_id, person, agent, device, server, tool, reason, entry)
-- An API request that was forbidden. No row: the id is a replay.
INSERT INTO log (kind, id, call, time_ms, grant_id, person, agent, device, server, tool,
                 decision, reason, outcome, duration_ms, deadline_ms, entry)
VALUES ('request', :id, :call, :time_ms, :grant_id, :person, :agent, :device, :server, :tool,
        'forbid', :reason, '', 0, 0, :entry)
ON CONFLICT DO NOTHING
RETURNING seq

-- name: record_outcome(call, time_ms, grant_id, outcome, reason, duration_ms, entry)
-- Settles a permitted call of this grant. The first outcome stands; a call that is not there is not settled.
INSERT INTO log (kind, id, call, time_ms, grant_id, person, agent, device, server, tool,
                 decision, reason, outcome, duration_ms, deadline_ms, entry)
SELECT 'outcome', c.id, c.id, :time_ms, c.grant_id, c.person, c.agent, c.device, c.server, c.tool,
       '', :reason, :outcome, :duration_ms, 0, :entry
FROM log c
WHERE c.kind = 'call' AND c.id = :call AND c.decision = 'permit' AND c.grant_id = :grant_id
ON CONFLICT DO NOTHING
RETURNING seq, server, outcome, call

-- name: overdue_calls(since_ms, now_ms, limit)
-- Long reading. Permitted calls whose deadline passed in that time and that nobody settled, for the sweep to unknown.
SELECT c.id AS call, c.grant_id, c.person, c.agent, c.server, c.time_ms, c.deadline_ms
FROM log c
WHERE c.deadline_ms > 0 AND c.deadline_ms >= :since_ms AND c.deadline_ms < :now_ms AND c.kind = 'call'
  AND c.decision = 'permit'
  AND NOT EXISTS (SELECT 1 FROM log o WHERE o.kind = 'outcome' AND o.id = c.id)
ORDER BY c.deadline_ms LIMIT :limit

-- name: record_change(kind, id, call, time_ms, grant_id, person, agent, device, server, reason, entry)
-- An administrative change (kind change), or arguments read by an administrator (kind reading).
INSERT INTO log (kind, id, call, time_ms, grant_id, person, agent, device, server, tool,
                 decision, reason, outcome, duration_ms, deadline_ms, entry)
VALUES (:kind, :id, :call, :time_ms, :grant_id, :person, :agent, :device, :server, '', '', :reason, '', 0, 0, :entry)
ON CONFLICT DO NOTHING
RETURNING seq

-- name: remember_proof(jti, expires_at)
-- For signed requests that leave no row in the log. No row: a replay.
INSERT INTO proofs (jti, expires_at) VALUES (:jti, :expires_at) ON CONFLICT DO NOTHING RETURNING jti

-- name: forget_proofs(now)
DELETE FROM proofs WHERE expires_at < :now

-- name: list_calls(person, grant_id, device, agent, server, tool, decision, since_ms, until_ms, before, limit, of_key, secret_owner, secret_version, now)
-- Long reading. Calls with their outcomes, newest first; an empty string, or 0, filters nothing. The next page begins
-- `before` the last row's seq: calls of one instant have one time, and clocks of replicas differ.
-- of_key 1: only those whose requests carried this key, and requests with it that belong to no call. Then an empty
-- secret_owner means the shared key, and secret_version 0 any version.
WITH uses AS (
    SELECT u.seq, u.call FROM log u
    WHERE u.secret_version > 0 AND u.secret_owner = :secret_owner
      AND (:secret_version = 0 OR u.secret_version = :secret_version) AND (:server = '' OR u.server = :server)
)
SELECT c.seq, c.call, c.time_ms, c.grant_id, c.person, c.agent, c.device, COALESCE(d.name, '') AS device_name,
       c.server, c.tool, c.decision, c.reason, COALESCE(o.outcome, '') AS outcome,
       COALESCE(o.duration_ms, 0) AS duration_ms, c.approval,
       COALESCE((SELECT MIN(n.answered_by) FROM approval_groups n WHERE n.approval = c.approval), '') AS approver,
       COALESCE((SELECT {approval_state} FROM approvals a LEFT JOIN lasting_answers l ON l.id = a.id WHERE a.id = c.approval), '') AS approval_state
FROM log c LEFT JOIN log o ON o.kind = 'outcome' AND o.id = c.id
     LEFT JOIN device_keys k ON k.thumbprint = c.device LEFT JOIN devices d ON d.id = k.device
WHERE ((:of_key = 0 AND c.kind = 'call')
    OR (:of_key = 1 AND c.kind = 'call' AND c.id IN (SELECT u.call FROM uses u))
    OR (:of_key = 1 AND c.kind = 'request' AND c.call = '' AND c.seq IN (SELECT u.seq FROM uses u)))
  AND (:person = '' OR c.person = :person) AND (:grant_id = '' OR c.grant_id = :grant_id)
  AND (:device = '' OR c.device = :device)
  AND (:agent = '' OR c.agent = :agent) AND (:server = '' OR c.server = :server)
  AND (:tool = '' OR c.tool = :tool) AND (:decision = '' OR c.decision = :decision)
  AND c.time_ms >= :since_ms AND (:until_ms = 0 OR c.time_ms < :until_ms) AND (:before = 0 OR c.seq < :before)
ORDER BY c.seq DESC LIMIT :limit

-- name: last_seq()
SELECT COALESCE(MAX(seq), 0) AS seq FROM log

-- name: show_call(call)
-- The record of one call: its decision, redemption, requests and outcome, oldest first.
SELECT kind, call, entry FROM log WHERE seq IN (
    SELECT own.seq FROM log own WHERE own.kind IN ('call', 'redemption', 'outcome') AND own.id = :call
    UNION ALL
    SELECT other.seq FROM log other WHERE other.call = :call AND other.id <> other.call AND other.call <> ''
) ORDER BY seq

-- name: read_arguments(call)
SELECT sealed FROM arguments WHERE call = :call

-- name: read_call(call)
-- What never changes of a permitted call.
SELECT c.id AS call, c.grant_id, c.device, c.server, c.tool, c.deadline_ms
FROM log c WHERE c.kind = 'call' AND c.id = :call AND c.decision = 'permit'

-- name: read_window(call)
-- How far a permitted call has come: why a conditional statement may have found nothing to do.
SELECT c.deadline_ms,
       (SELECT COUNT(*) FROM log r WHERE r.kind = 'redemption' AND r.id = :call) AS redeemed,
       (SELECT COUNT(*) FROM log o WHERE o.kind = 'outcome' AND o.id = :call) AS settled
FROM log c WHERE c.kind = 'call' AND c.id = :call AND c.decision = 'permit'

-- name: is_recorded(kind, id)
SELECT seq FROM log WHERE kind = :kind AND id = :id

-- name: settled_of(calls)
-- Those of some calls that have an outcome. `calls` is a JSON object with their ids as its names, which both engines
-- read by one function; CROSS JOIN has SQLite begin with them, and not with all the outcomes there are.
SELECT o.id AS call FROM json_each(:calls) c CROSS JOIN log o WHERE o.kind = 'outcome' AND o.id = c.key
