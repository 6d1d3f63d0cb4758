-- Which key a request carries: its person's own, or the shared one.

-- removed: nothing of it is sealed any more; the row remembers the version, so that none is ever given twice.
ALTER TABLE personal_keys ADD COLUMN state TEXT NOT NULL DEFAULT 'active';    -- active, removed

-- The keys that may be used now: whose (owner empty: the shared one, for everybody), from which device key, and where
-- the entry must send them (empty: any, anywhere). Each statement that records a request with a key asks it. A version
-- that was newest when it was decided on may still be used: a rotation fails no call.
CREATE VIEW usable_keys AS
SELECT s.name AS server, '' AS owner, '' AS thumbprint, '' AS binding, s.secret_version AS version
FROM servers s WHERE s.secret_version > 0
UNION ALL
SELECT k.server, k.person, v.thumbprint, k.binding, k.secret_version
FROM personal_keys k JOIN vouched_device_keys v ON v.person = k.person
WHERE k.state = 'active';
