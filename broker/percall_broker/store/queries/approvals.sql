-- Questions to people, and what they answered. The statements that a call waits for come first.

-- name: hold_grant(id, version, device)
-- First of those that ask: what one grant asks is asked one after another. No row: the grant is not as it was.
SELECT g.id FROM grants g WHERE g.id = :id AND g.state = 'active' AND g.version = :version AND g.device = :device
/*+ FOR UPDATE */

-- name: close_approvals(grant_id, subject, now)
-- Those about the same call that have expired, so that it can be asked about again.
UPDATE approvals SET state = 'ended'
WHERE grant_id = :grant_id AND subject = :subject AND state IN ('pending', 'allowed', 'denied') AND expires_at <= :now

-- name: add_approval(id, kind, grant_id, person, agent, device, server, method, tool, subject, arguments, call, session, policies, policy_version, separate, reason, wanted, digest, asked_ms, expires_at, most, now)
-- No row: the same is being asked already, or this grant asks for more than it may at a time.
INSERT INTO approvals (id, kind, state, grant_id, person, agent, device, server, method, tool, subject, arguments, call,
                       session, policies, policy_version, separate, reason, wanted, digest, asked_ms, expires_at)
SELECT :id, :kind, 'pending', :grant_id, :person, :agent, :device, :server, :method, :tool, :subject, :arguments, :call,
       :session, :policies, :policy_version, :separate, :reason, :wanted, :digest, :asked_ms, :expires_at
WHERE (SELECT COUNT(*) FROM approvals a WHERE a.grant_id = :grant_id AND a.state = 'pending' AND a.expires_at > :now) < :most
ON CONFLICT DO NOTHING
RETURNING id

-- name: add_approval_group(approval, group_name)
INSERT INTO approval_groups (approval, group_name) VALUES (:approval, :group_name)

-- name: record_question(id, time_ms, grant_id, person, agent, device, server, tool, reason, approval, entry)
-- A call that must be approved first. No row: the id is a replay.
INSERT INTO log (kind, id, call, time_ms, grant_id, person, agent, device, server, tool,
                 decision, reason, outcome, duration_ms, deadline_ms, approval, entry)
VALUES ('call', :id, :id, :time_ms, :grant_id, :person, :agent, :device, :server, :tool,
        'ask', :reason, '', 0, 0, :approval, :entry)
ON CONFLICT DO NOTHING
RETURNING seq

-- name: find_approval(grant_id, subject, now)
-- What was asked about the same call.
SELECT id, state, call, scope, asked_ms, expires_at FROM approvals
WHERE grant_id = :grant_id AND subject = :subject AND state IN ('pending', 'allowed', 'denied') AND expires_at > :now

-- name: count_asked(grant_id, now)
SELECT COUNT(*) AS pending FROM approvals WHERE grant_id = :grant_id AND state = 'pending' AND expires_at > :now

-- name: find_allowances(grant_id, server, tool, rule, session, now)
SELECT id, shape, varying FROM lasting_answers
WHERE grant_id = :grant_id AND server = :server AND tool = :tool AND effect = 'allow' AND state = 'active'
  AND rule = :rule AND session IN ('', :session) AND expires_at > :now
ORDER BY given_ms, id

-- name: use_approval(approval, call, grant_id, subject, now)
-- In the transaction of the call's own record, which is undone without it. No row: it is not allowed, or not any more.
UPDATE approvals SET state = 'used', used_by = :call
WHERE id = :approval AND state = 'allowed' AND grant_id = :grant_id AND subject = :subject AND expires_at > :now
RETURNING id

-- name: hold_allowance(approval, now)
-- As use_approval, for an answer that holds for more than one call: it stands until the call is on record.
SELECT l.id FROM lasting_answers l
WHERE l.id = :approval AND l.effect = 'allow' AND l.state = 'active' AND l.expires_at > :now
/*+ FOR SHARE */

-- name: who_answered(approval)
SELECT group_name, answered_by, presence, answered_ms FROM approval_groups WHERE approval = :approval ORDER BY group_name

-- --- answering ------------------------------------------------------------------------------------------------------

-- name: hold_approval(id, digest, person, now)
-- First of an answer: answers to one question wait for one another. No row: it is not open, is not what was seen, or is
-- this person's own and somebody else must answer.
UPDATE approvals SET answered_ms = answered_ms
WHERE id = :id AND state = 'pending' AND expires_at > :now AND digest = :digest AND (separate = 0 OR person <> :person)
RETURNING id

-- name: answer_for_groups(approval, person, presence, time_ms, now)
-- For each group that this person is in. No row: for none.
UPDATE approval_groups SET answered_by = :person, presence = :presence, answered_ms = :time_ms
WHERE approval = :approval AND answered_by = '' AND (
    group_name IN (SELECT m.group_name FROM group_members m WHERE m.person = :person)
    OR (group_name = '' AND EXISTS (
        SELECT 1 FROM administrators a JOIN grants g ON g.id = a.grant_id
        WHERE a.person = :person AND g.automation = 0 AND (a.expires_at = 0 OR a.expires_at > :now)
    ))
)
RETURNING group_name

-- name: allow_approval(id, scope, time_ms, expires_at)
-- Once somebody of each group has said yes. No row: others have still to.
UPDATE approvals SET state = 'allowed', answer = 'allow', scope = :scope, answered_ms = :time_ms, expires_at = :expires_at
WHERE id = :id AND state = 'pending'
  AND NOT EXISTS (SELECT 1 FROM approval_groups n WHERE n.approval = :id AND n.answered_by = '')
RETURNING id

-- name: deny_approval(id, answer, time_ms)
UPDATE approvals SET state = 'denied', answer = :answer, answered_ms = :time_ms
WHERE id = :id AND state = 'pending'
RETURNING id

-- name: add_lasting_answer(id, effect, grant_id, person, server, tool, rule, shape, varying, session, expires_at, given_by, given_ms)
INSERT INTO lasting_answers (id, effect, state, grant_id, person, server, tool, rule, shape, varying, session,
                             expires_at, given_by, given_ms)
VALUES (:id, :effect, 'active', :grant_id, :person, :server, :tool, :rule, :shape, :varying, :session,
        :expires_at, :given_by, :given_ms)
ON CONFLICT DO NOTHING
RETURNING id

-- name: lift_answer(id, person)
-- No row: it does not hold any more.
UPDATE lasting_answers SET state = 'lifted', lifted_by = :person WHERE id = :id AND state = 'active' RETURNING id

-- name: end_approval(id)
-- What an answer that is taken back had allowed, and was not used.
UPDATE approvals SET state = 'ended' WHERE id = :id AND state = 'allowed'

-- name: may_judge(approval, person, now)
-- Required of whoever takes an answer back: in one of the groups, or an administrator; and not the asker, where somebody
-- else must answer.
SELECT a.id FROM approvals a
WHERE a.id = :approval AND (a.separate = 0 OR a.person <> :person) AND (
    EXISTS (
        SELECT 1 FROM approval_groups n JOIN group_members m ON m.group_name = n.group_name
        WHERE n.approval = a.id AND m.person = :person
    )
    OR EXISTS (
        SELECT 1 FROM administrators d JOIN grants g ON g.id = d.grant_id
        WHERE d.person = :person AND g.automation = 0 AND (d.expires_at = 0 OR d.expires_at > :now)
    )
)

-- name: set_used_by(id, used_by)
UPDATE approvals SET state = 'used', used_by = :used_by WHERE id = :id AND state = 'allowed' RETURNING id

-- name: end_approvals()
-- With every change, in its transaction: what revoked grants asked is asked no more, and what they were allowed ends; as
-- does what somebody allowed who could not any more.
UPDATE approvals SET state = 'ended'
WHERE (state IN ('pending', 'allowed') AND grant_id IN (SELECT g.id FROM grants g WHERE g.state = 'revoked'))
   OR (state = 'allowed' AND EXISTS (SELECT 1 FROM void_answers v WHERE v.approval = approvals.id))
RETURNING id

-- name: end_allowances()
UPDATE lasting_answers SET state = 'ended'
WHERE state = 'active' AND effect = 'allow' AND (
    grant_id IN (SELECT g.id FROM grants g WHERE g.state = 'revoked')
    OR EXISTS (SELECT 1 FROM void_answers v WHERE v.approval = lasting_answers.id)
)

-- name: ask_again()
-- Where others have still to answer, whoever could not say yes any more has not said it.
UPDATE approval_groups SET answered_by = '', presence = '', answered_ms = 0
WHERE approval IN (SELECT a.id FROM approvals a WHERE a.state = 'pending')
  AND EXISTS (
    SELECT 1 FROM void_answers v WHERE v.approval = approval_groups.approval AND v.group_name = approval_groups.group_name
  )

-- name: end_approvals_of_policies(version)
-- With new policies, in their transaction: what earlier ones asked is answered for nothing. Requests stay.
UPDATE approvals SET state = 'ended'
WHERE kind = 'call' AND state IN ('pending', 'allowed') AND policy_version < :version

-- name: end_allowances_of_policies()
UPDATE lasting_answers SET state = 'ended' WHERE state = 'active' AND effect = 'allow'

-- name: end_lasting_answers(person)
UPDATE lasting_answers SET state = 'ended' WHERE state = 'active' AND person = :person

-- name: end_past_allowances(now)
-- Whose time is over, so that what was asked can be forgotten.
UPDATE lasting_answers SET state = 'ended' WHERE state = 'active' AND effect = 'allow' AND expires_at <= :now

-- name: forget_approvals(before_ms, now)
-- Long over; the record stands.
DELETE FROM approvals
WHERE asked_ms < :before_ms AND expires_at < :now
  AND NOT EXISTS (SELECT 1 FROM lasting_answers l WHERE l.id = approvals.id AND l.state = 'active')

-- name: forget_approval_groups()
DELETE FROM approval_groups WHERE approval NOT IN (SELECT a.id FROM approvals a)

-- --- reading --------------------------------------------------------------------------------------------------------

-- part: approval_state
-- What has become of the approval `a`; `l` is the answer to it, where that lasts. What lets calls pass still is allowed,
-- however often it was used.
CASE WHEN l.effect = 'allow' AND l.state = 'active' AND l.expires_at > :now THEN 'allowed'
     WHEN a.state IN ('pending', 'allowed') AND a.expires_at <= :now THEN 'expired' ELSE a.state END

-- part: approval_columns
-- Of the approval `a`, and of the answer `l` to it, where that lasts.
a.seq, a.id, a.kind,
       a.grant_id, a.person, a.agent, a.device, a.server, a.method, a.tool, a.arguments, a.call, a.session, a.policies,
       a.policy_version, a.separate, a.reason, a.wanted, a.digest, a.asked_ms, a.expires_at, a.answer, a.scope,
       a.answered_ms, a.used_by, COALESCE(l.expires_at, 0) AS lasts_until,
       COALESCE(CASE WHEN l.effect = 'allow' AND l.state = 'active' AND l.expires_at <= :now THEN 'ended' ELSE l.state END, '') AS lasting

-- name: list_approvals(viewer, sees_all, state, kind, person, agent, server, mine, before, limit, now)
-- Long reading. Newest first, of those that the viewer may see: all, those of the viewer's groups, and the viewer's own.
-- Empty and 0 filter nothing; `mine` leaves those that the viewer may answer now.
SELECT {approval_columns}, {approval_state} AS state
FROM approvals a LEFT JOIN lasting_answers l ON l.id = a.id
WHERE (:before = 0 OR a.seq < :before)
  AND (:state = '' OR {approval_state} = :state)
  AND (:kind = '' OR a.kind = :kind) AND (:person = '' OR a.person = :person) AND (:agent = '' OR a.agent = :agent)
  AND (:server = '' OR a.server = :server)
  AND (:sees_all = 1 OR a.person = :viewer OR EXISTS (
    SELECT 1 FROM approval_groups n JOIN group_members m ON m.group_name = n.group_name
    WHERE n.approval = a.id AND m.person = :viewer
  ))
  AND (:mine = 0 OR (
    a.state = 'pending' AND a.expires_at > :now AND (a.separate = 0 OR a.person <> :viewer) AND EXISTS (
      SELECT 1 FROM approval_groups o
      WHERE o.approval = a.id AND o.answered_by = '' AND (
        (o.group_name = '' AND :sees_all = 1)
        OR EXISTS (SELECT 1 FROM group_members w WHERE w.group_name = o.group_name AND w.person = :viewer)
      )
    )
  ))
ORDER BY a.seq DESC LIMIT :limit

-- name: read_approval(id, now)
SELECT {approval_columns}, {approval_state} AS state, COALESCE(l.varying, '[]') AS varying
FROM approvals a LEFT JOIN lasting_answers l ON l.id = a.id
WHERE a.id = :id

-- name: own_approvals(grant_id, now, limit)
-- What a grant has asked, newest first.
SELECT a.id, a.kind, {approval_state} AS state, a.server, a.tool, a.reason, a.asked_ms,
       COALESCE(l.expires_at, a.expires_at) AS expires_at
FROM approvals a LEFT JOIN lasting_answers l ON l.id = a.id AND l.effect = 'allow' AND l.state = 'active'
WHERE a.grant_id = :grant_id
ORDER BY a.seq DESC LIMIT :limit

-- name: answered_approvals(grant_id, since_ms)
-- What a grant's shims have not been told yet.
SELECT id, answered_ms FROM approvals WHERE grant_id = :grant_id AND answered_ms > :since_ms ORDER BY answered_ms
