-- People, their devices, groups, and the brake.
-- A device is a person's machine; a device key belongs to one agent on it. Until now each key was called a device.

ALTER TABLE persons ADD COLUMN state TEXT NOT NULL DEFAULT 'active';    -- active, suspended, removed

ALTER TABLE devices RENAME TO device_keys;
CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    person TEXT NOT NULL REFERENCES persons (name),
    name TEXT NOT NULL,
    state TEXT NOT NULL,                    -- active, revoked
    created_at BIGINT NOT NULL
);
ALTER TABLE device_keys ADD COLUMN device TEXT REFERENCES devices (id);
ALTER TABLE device_keys ADD COLUMN state TEXT NOT NULL DEFAULT 'active';    -- active, removed
-- What was known of a machine was its name.
INSERT INTO devices (id, person, name, state, created_at)
SELECT 'd_' || substr(MIN(thumbprint), 1, 16), person, name, 'active', MIN(created_at)
FROM device_keys GROUP BY person, name;
UPDATE device_keys SET device = (
    SELECT d.id FROM devices d WHERE d.person = device_keys.person AND d.name = device_keys.name
);
ALTER TABLE device_keys DROP COLUMN name;
CREATE INDEX device_keys_device ON device_keys (device);
CREATE INDEX devices_person ON devices (person);

CREATE TABLE groups (
    name TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);

-- id: of this membership; who leaves and joins again gets another, and with it grants of their own.
CREATE TABLE group_members (
    group_name TEXT NOT NULL REFERENCES groups (name),
    person TEXT NOT NULL REFERENCES persons (name),
    id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (group_name, person)
);

-- What each member of a group is granted: one grant of their own, now and whenever somebody joins.
CREATE TABLE group_grants (
    id TEXT PRIMARY KEY,
    group_name TEXT NOT NULL,
    scope TEXT NOT NULL,
    agent TEXT NOT NULL,
    expires_seconds BIGINT NOT NULL,        -- from joining; 0: never
    state TEXT NOT NULL,                    -- active, ended
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);

ALTER TABLE grants ADD COLUMN claimable INTEGER NOT NULL DEFAULT 0;     -- 1: waits for, or was picked up by, a device
ALTER TABLE grants ADD COLUMN group_grant TEXT NOT NULL DEFAULT '';     -- where it came from; empty: made for itself
CREATE INDEX grants_person ON grants (person);
CREATE INDEX grants_device ON grants (device);

-- kind: all (its name is empty), person, device (its id), server.
CREATE TABLE freezes (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);

-- The pairs of a grant and a server that nothing but the grant's own state, end and scope stops. Each statement that
-- records an intent asks it. Whoever changes what it reads also raises the version of the grants or servers concerned:
-- those rows are locked by the intents under way, so that a change waits for them, and every later one sees it.
CREATE VIEW standing AS
SELECT g.id AS grant_id, s.name AS server
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

-- The administrators' grants that can be used now, but for their end.
CREATE VIEW administrators AS
SELECT g.id AS grant_id, p.name AS person, d.id AS device, g.expires_at
FROM grants g
JOIN persons p ON p.name = g.person
JOIN device_keys k ON k.thumbprint = g.device
JOIN devices d ON d.id = k.device
WHERE g.administrator = 1 AND g.state = 'active' AND p.state = 'active' AND k.state = 'active' AND d.state = 'active'
  AND NOT EXISTS (
    SELECT 1 FROM freezes f
    WHERE (f.kind = 'person' AND f.name = p.name) OR (f.kind = 'device' AND f.name = d.id)
  );
