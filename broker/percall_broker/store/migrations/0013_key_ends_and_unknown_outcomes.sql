-- When a key ends at its issuer, as whoever gave it said, so that somebody is told in time; the broker itself goes on
-- using it. Seconds; 0: not told.
ALTER TABLE secrets ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;

-- Outcomes that nobody knows are few, and looked for by their time.
CREATE INDEX log_unknown ON log (time_ms) WHERE outcome = 'unknown';
