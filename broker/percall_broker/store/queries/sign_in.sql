-- Signing in at the organisation's provider.

-- name: read_account(issuer, subject)
SELECT a.person, p.state, p.sign_in_until FROM accounts a JOIN persons p ON p.name = a.person
WHERE a.issuer = :issuer AND a.subject = :subject

-- name: link_account(issuer, subject, person, linked_at)
-- Required after add_person. No row: the person is another account's already, or is not active.
INSERT INTO accounts (issuer, subject, person, linked_at)
SELECT :issuer, :subject, p.name, :linked_at FROM persons p
WHERE p.name = :person AND p.state = 'active' AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.person = :person)
ON CONFLICT DO NOTHING
RETURNING person

-- name: signed_in(person, until)
-- Longer, never shorter.
UPDATE persons SET sign_in_until = :until WHERE name = :person AND state = 'active' AND sign_in_until < :until
RETURNING name

-- name: unlink_accounts(person)
-- So that somebody who has the name now may sign in under it.
DELETE FROM accounts WHERE person = :person RETURNING issuer
