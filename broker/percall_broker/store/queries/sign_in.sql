-- Signing in at the organisation's provider.

-- name: read_account(issuer, subject)
SELECT a.person, a.state AS account_state, p.state FROM accounts a JOIN persons p ON p.name = a.person
WHERE a.issuer = :issuer AND a.subject = :subject

-- name: person_of_name(name)
-- Also one who was removed.
SELECT name, state FROM persons WHERE name = :name

-- name: link_account(issuer, subject, person, linked_at)
-- Required after add_person. No row: the person is another account's already, is not active, or has been here (has had
-- a device, or administers) and no account is expected.
INSERT INTO accounts (issuer, subject, person, linked_at)
SELECT :issuer, :subject, p.name, :linked_at FROM persons p
WHERE p.name = :person AND p.state = 'active' AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.person = :person)
  AND (p.account_until > :linked_at OR (
    NOT EXISTS (SELECT 1 FROM devices d WHERE d.person = :person)
    AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.person = :person AND g.administrator = 1 AND g.state <> 'revoked')
  ))
ON CONFLICT DO NOTHING
RETURNING person

-- name: accounts_of(person)
SELECT issuer FROM accounts WHERE person = :person

-- name: signed_in(person, until)
-- Longer, never shorter.
UPDATE persons SET sign_in_until = :until WHERE name = :person AND state = 'active' AND sign_in_until < :until
RETURNING name

-- name: end_accounts(person)
UPDATE accounts SET state = 'ended' WHERE person = :person

-- name: forget_accounts(person)
DELETE FROM accounts WHERE person = :person RETURNING issuer

-- name: expect_account(person, until)
-- No row: there is no such person, or they are not active.
UPDATE persons SET account_until = :until WHERE name = :person AND state = 'active' RETURNING name
