-- Answers to approvals by somebody who could not give them any more: removed, suspended, frozen, or no longer in the
-- group (nor, for the empty one, an administrator).
CREATE VIEW void_answers AS
SELECT n.approval, n.group_name
FROM approval_groups n
WHERE n.answered_by <> '' AND NOT EXISTS (
    SELECT 1 FROM persons p
    WHERE p.name = n.answered_by AND p.state = 'active'
      AND NOT EXISTS (SELECT 1 FROM freezes f WHERE f.kind = 'person' AND f.name = p.name)
      AND (
        EXISTS (SELECT 1 FROM group_members m WHERE m.group_name = n.group_name AND m.person = p.name)
        OR (n.group_name = '' AND EXISTS (SELECT 1 FROM administrators a WHERE a.person = p.name))
      )
);
