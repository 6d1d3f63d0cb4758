-- A name at the provider alone makes nobody a person who has been here: an administrator lets it, for some days.
ALTER TABLE persons ADD COLUMN account_until BIGINT NOT NULL DEFAULT 0;    -- seconds; 0: no account is expected
