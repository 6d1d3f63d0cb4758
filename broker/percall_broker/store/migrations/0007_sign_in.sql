-- Signing in at the organisation's provider: whose account is whose, and until when a sign-in holds.

-- An account never changes hands; a name at the provider may.
CREATE TABLE accounts (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    person TEXT NOT NULL REFERENCES persons (name),
    linked_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX accounts_person ON accounts (person);

ALTER TABLE persons ADD COLUMN sign_in_until BIGINT NOT NULL DEFAULT 0;    -- seconds; 0: need not sign in

-- As in 0002_people.sql, and until when the person's sign-in holds, which whoever asks compares with the time.
DROP VIEW standing;
CREATE VIEW standing AS
SELECT g.id AS grant_id, s.name AS server, p.sign_in_until
FROM grants g
JOIN persons p ON p.name = g.person
JOIN device_keys k ON k.thumbprint = g.device
JOIN devices d ON d.id = k.device
CROSS JOIN servers s
WHERE p.state = 'active' AND k.state = 'active' AND d.state = 'active' AND s.state = 'active'
  AND NOT EXISTS (
    SELECT 1 FROM freezes f
    WHERE f.kind = 'all' OR (f.kind = 'person' AND f.name = p.name)
       OR (f.kind = 'device' AND f.name = d.id) OR (f.kind = 'server' AND f.name = s.name)
  );
