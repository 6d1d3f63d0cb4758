-- People, their devices and groups, and freezes.
-- What `standing` reads changes together with the versions of the grants or servers concerned: see 0002_people.sql.

-- name: add_person(name, created_at)
-- A removed person's name may be used again; what was theirs stays ended.
INSERT INTO persons (name, created_at, state) VALUES (:name, :created_at, 'active')
ON CONFLICT (name) DO UPDATE SET state = 'active', created_at = excluded.created_at WHERE persons.state = 'removed'

-- name: known_person(name)
-- Required, for each person that a change names.
SELECT name, state FROM persons WHERE name = :name AND state <> 'removed'

-- name: list_persons(now)
-- Long reading. With how many devices and grants each has that are not ended.
SELECT p.name, p.state, p.created_at,
       f.kind AS frozen_kind, f.name AS frozen_name, f.reason AS frozen_reason, f.created_by AS frozen_by,
       f.created_at AS frozen_at,
       (SELECT COUNT(*) FROM devices d WHERE d.person = p.name AND d.state = 'active') AS devices,
       (SELECT COUNT(*) FROM grants g WHERE g.person = p.name AND g.state <> 'revoked'
          AND (g.expires_at = 0 OR g.expires_at > :now)) AS grants,
       (SELECT COUNT(*) FROM administrators a WHERE a.person = p.name
          AND (a.expires_at = 0 OR a.expires_at > :now)) AS administrator
FROM persons p LEFT JOIN freezes f ON f.kind = 'person' AND f.name = p.name
ORDER BY p.name

-- name: set_person_state(name, state, from_state)
-- No row: there is no such person, or they are not in that state.
UPDATE persons SET state = :state WHERE name = :name AND state = :from_state RETURNING name

-- name: remove_person(name)
-- No row: there is no such person, or they are removed already.
UPDATE persons SET state = 'removed' WHERE name = :name AND state <> 'removed' RETURNING name

-- name: keep_an_administrator(person, device, grant_id, now)
-- Required in each change that stops a person, a device or a grant (empty for the others): some other administrator
-- stays able to act, or none of those concerned is one. After advance_epoch, so that two such changes see one another.
SELECT 1 AS kept
WHERE EXISTS (
    SELECT 1 FROM administrators a
    WHERE (a.expires_at = 0 OR a.expires_at > :now)
      AND a.person <> :person AND a.device <> :device AND a.grant_id <> :grant_id
) OR NOT EXISTS (
    SELECT 1 FROM administrators a
    WHERE (a.expires_at = 0 OR a.expires_at > :now)
      AND (a.person = :person OR a.device = :device OR a.grant_id = :grant_id)
)

-- name: touch_grants(person, device)
-- So that intents under way are waited for, and later ones see the change. Empty names nothing; both empty: none.
UPDATE grants SET version = version + 1
WHERE person = :person OR device IN (SELECT k.thumbprint FROM device_keys k WHERE k.device = :device)
RETURNING id

-- name: touch_servers(name)
-- As touch_grants; an empty name means all of them.
UPDATE servers SET version = version + 1 WHERE :name = '' OR name = :name RETURNING name

-- name: revoke_grants(person, device, thumbprint)
-- All that are bound to a person, a device or a device key (empty names nothing).
UPDATE grants SET state = 'revoked', version = version + 1
WHERE state <> 'revoked' AND (
    person = :person OR device = :thumbprint
    OR device IN (SELECT k.thumbprint FROM device_keys k WHERE k.device = :device)
)
RETURNING id, person

-- name: end_invites(person, now)
-- The unused invites of a person.
UPDATE invites SET expires_at = :now
WHERE used_at IS NULL AND expires_at > :now AND grant_id IN (SELECT g.id FROM grants g WHERE g.person = :person)
RETURNING grant_id

-- name: add_device(id, person, name, created_at)
INSERT INTO devices (id, person, name, state, created_at) VALUES (:id, :person, :name, 'active', :created_at)

-- name: rename_device(id, person, name)
-- Required where a device enrols again. No row: it is not an active device of this person's.
UPDATE devices SET name = :name WHERE id = :id AND person = :person AND state = 'active' RETURNING id

-- name: add_device_key(thumbprint, person, device, created_at)
-- A key that was removed may enrol again on its own device.
INSERT INTO device_keys (thumbprint, person, device, state, created_at)
VALUES (:thumbprint, :person, :device, 'active', :created_at)
ON CONFLICT (thumbprint) DO UPDATE SET state = 'active'
WHERE device_keys.person = excluded.person AND device_keys.device = excluded.device
RETURNING thumbprint

-- name: read_device_key(thumbprint)
SELECT k.thumbprint, k.person, k.device, k.state, d.name AS device_name, d.state AS device_state
FROM device_keys k JOIN devices d ON d.id = k.device
WHERE k.thumbprint = :thumbprint

-- name: list_devices(person)
-- Long reading. An empty name: everybody's.
SELECT d.id, d.person, d.name, d.state, d.created_at,
       f.kind AS frozen_kind, f.name AS frozen_name, f.reason AS frozen_reason, f.created_by AS frozen_by,
       f.created_at AS frozen_at,
       (SELECT COUNT(*) FROM device_keys k WHERE k.device = d.id AND k.state = 'active') AS keys,
       (SELECT COUNT(*) FROM device_keys k JOIN grants g ON g.device = k.thumbprint
          WHERE k.device = d.id AND g.state <> 'revoked') AS grants
FROM devices d LEFT JOIN freezes f ON f.kind = 'device' AND f.name = d.id
WHERE :person = '' OR d.person = :person
ORDER BY d.person, d.created_at, d.id

-- name: devices_named(name)
-- By id, or by the name that its person gave it.
SELECT d.id, d.person, d.name, d.state FROM devices d WHERE d.id = :name OR d.name = :name ORDER BY d.state, d.person, d.id

-- name: has_device(person)
-- Whether a grant can wait for a device of this person's.
SELECT d.id FROM devices d
WHERE d.person = :person AND d.state = 'active'
  AND EXISTS (SELECT 1 FROM device_keys k WHERE k.device = d.id AND k.state = 'active')

-- name: revoke_device(id)
-- No row: there is no such device, or it is revoked already.
UPDATE devices SET state = 'revoked' WHERE id = :id AND state = 'active' RETURNING id

-- name: remove_devices(person)
UPDATE devices SET state = 'revoked' WHERE person = :person AND state = 'active' RETURNING id

-- name: remove_device_key(thumbprint)
UPDATE device_keys SET state = 'removed' WHERE thumbprint = :thumbprint AND state = 'active' RETURNING thumbprint

-- name: add_freeze(kind, name, reason, created_at, created_by)
-- No row: it is frozen already, and who did so stays on record.
INSERT INTO freezes (kind, name, reason, created_at, created_by)
VALUES (:kind, :name, :reason, :created_at, :created_by) ON CONFLICT DO NOTHING
RETURNING name

-- name: remove_freeze(kind, name)
DELETE FROM freezes WHERE kind = :kind AND name = :name RETURNING name

-- name: remove_device_freezes(person)
-- Those of a person's devices.
DELETE FROM freezes WHERE kind = 'device' AND name IN (SELECT d.id FROM devices d WHERE d.person = :person)

-- name: list_freezes()
SELECT kind, name, reason, created_at, created_by FROM freezes ORDER BY kind, name
