-- A name at the provider alone makes nobody a person who has been here: an administrator lets it, for some days.
ALTER TABLE persons ADD COLUMN account_until BIGINT NOT NULL DEFAULT 0;    -- seconds; 0: no account is expected
-- The account of somebody who was removed stays theirs, and ended, whoever has the name next.
ALTER TABLE accounts ADD COLUMN state TEXT NOT NULL DEFAULT 'active';    -- active, ended
UPDATE accounts SET state = 'ended' WHERE person IN (SELECT p.name FROM persons p WHERE p.state = 'removed');
UPDATE persons SET sign_in_until = 0 WHERE state = 'removed';
