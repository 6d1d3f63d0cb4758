-- People, their devices and groups, and freezes.
-- What `standing` reads changes together with the versions of the grants or servers concerned: see 0002_people.sql.

-- name: add_person(name, created_at)
-- A removed person's name may be used again; what was theirs stays ended.
INSERT INTO persons (name, created_at, state) VALUES (:name, :created_at, 'active')
ON CONFLICT (name) DO UPDATE SET state = 'active', created_at = excluded.created_at WHERE persons.state = 'removed'

-- name: known_person(name)
-- Required, for each person that a change names.
SELECT name, state FROM persons WHERE name = :name AND state <> 'removed'

-- name: active_person(name)
-- Required of whoever signs in: who was removed meanwhile is not let in again.
SELECT name FROM persons WHERE name = :name AND state = 'active'

-- name: list_persons(now)
-- Long reading. With how many devices and grants each has that are not ended.
SELECT p.name, p.state, p.created_at, p.sign_in_until,
       {freeze_columns},
       (SELECT COUNT(*) FROM devices d WHERE d.person = p.name AND d.state = 'active') AS devices,
       (SELECT COUNT(*) FROM grants g WHERE g.person = p.name AND g.state <> 'revoked'
          AND (g.expires_at = 0 OR g.expires_at > :now)) AS grants,
       (SELECT COUNT(*) FROM administrators a JOIN grants r ON r.id = a.grant_id
          WHERE a.person = p.name AND r.automation = 0 AND (a.expires_at = 0 OR a.expires_at > :now)) AS administrator
FROM persons p LEFT JOIN freezes f ON f.kind = 'person' AND f.name = p.name
ORDER BY p.name

-- name: set_person_state(name, state, from_state)
-- No row: there is no such person, or they are not in that state.
UPDATE persons SET state = :state WHERE name = :name AND state = :from_state RETURNING name

-- name: remove_person(name)
-- No row: there is no such person, or they are removed already.
UPDATE persons SET state = 'removed', sign_in_until = 0, account_until = 0
WHERE name = :name AND state <> 'removed' RETURNING name

-- name: keep_an_administrator(person, device, thumbprint, grant_id, now)
-- Required in each change that stops a person, a device, a device key or a grant (empty names nothing): some other
-- administrator stays able to act, or none is able now. An automation is none, for it makes none. After advance_epoch,
-- so that two such changes see one another.
WITH concerned AS (
    SELECT g.id FROM grants g
    WHERE g.person = :person OR g.id = :grant_id OR g.device = :thumbprint
       OR g.device IN (SELECT k.thumbprint FROM device_keys k WHERE k.device = :device)
), able AS (
    SELECT a.grant_id FROM administrators a JOIN grants g ON g.id = a.grant_id
    WHERE g.automation = 0 AND (a.expires_at = 0 OR a.expires_at > :now)
)
SELECT 1 AS kept
WHERE EXISTS (SELECT 1 FROM able a WHERE a.grant_id NOT IN (SELECT c.id FROM concerned c))
   OR NOT EXISTS (SELECT 1 FROM able)

-- name: touch_grants(person, device)
-- So that intents under way are waited for, and later ones see the change. Empty names nothing; both empty: none.
UPDATE grants SET version = version + 1
WHERE person = :person OR device IN (SELECT k.thumbprint FROM device_keys k WHERE k.device = :device)
RETURNING id

-- name: touch_grants_of_members(group_name)
-- As touch_grants, for all who are in a group: policies decide by the groups that people are in.
UPDATE grants SET version = version + 1
WHERE person IN (SELECT m.person FROM group_members m WHERE m.group_name = :group_name)
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
SELECT k.person, k.device, d.name AS device_name, d.state AS device_state
FROM device_keys k JOIN devices d ON d.id = k.device
WHERE k.thumbprint = :thumbprint

-- name: known_device_key(thumbprint)
-- Required in what a device key asks for itself.
SELECT k.thumbprint FROM device_keys k JOIN devices d ON d.id = k.device
WHERE k.thumbprint = :thumbprint AND k.state = 'active' AND d.state = 'active'

-- name: list_devices(person)
-- Long reading. An empty name: everybody's.
SELECT d.id, d.person, d.name, d.state, d.created_at,
       {freeze_columns},
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

-- name: add_group(name, created_at)
INSERT INTO groups (name, created_at) VALUES (:name, :created_at) ON CONFLICT DO NOTHING

-- name: known_group(name)
SELECT name FROM groups WHERE name = :name

-- name: list_groups()
SELECT n.name, n.created_at,
       (SELECT COUNT(*) FROM group_members m WHERE m.group_name = n.name) AS members,
       (SELECT COUNT(*) FROM group_grants gg WHERE gg.group_name = n.name AND gg.state = 'active') AS grants
FROM groups n ORDER BY n.name

-- name: list_members(group_name)
SELECT m.person, p.state, m.created_at,
       (SELECT COUNT(*) FROM devices d JOIN device_keys k ON k.device = d.id
          WHERE d.person = m.person AND d.state = 'active' AND k.state = 'active') AS device_keys
FROM group_members m JOIN persons p ON p.name = m.person
WHERE m.group_name = :group_name ORDER BY m.person

-- name: add_member(group_name, person, id, created_at)
-- No row: is a member already.
INSERT INTO group_members (group_name, person, id, created_at)
SELECT :group_name, p.name, :id, :created_at FROM persons p WHERE p.name = :person AND p.state <> 'removed'
ON CONFLICT DO NOTHING
RETURNING person

-- name: remove_member(group_name, person)
-- An empty group: all of them. No row: is no member.
DELETE FROM group_members WHERE (:group_name = '' OR group_name = :group_name) AND person = :person
RETURNING group_name, person

-- name: add_group_grant(id, group_name, scope, agent, expires_seconds, created_at, created_by)
INSERT INTO group_grants (id, group_name, scope, agent, expires_seconds, state, created_at, created_by)
VALUES (:id, :group_name, :scope, :agent, :expires_seconds, 'active', :created_at, :created_by)
RETURNING id

-- name: add_grants_of_members(group_name, person, group_grant, now)
-- Each member's own grant of each of the group's: for one person, or one group grant, where those are named. It waits
-- for the member's device. One that was made before stays as it is.
INSERT INTO grants (id, person, agent, device, administrator, scope, state, version, expires_at, created_at, created_by,
                    claimable, group_grant)
SELECT 'g_' || gg.id || m.id, m.person, gg.agent, NULL, 0, gg.scope, 'active', 1,
       CASE WHEN gg.expires_seconds = 0 THEN 0 ELSE gg.expires_seconds + :now END, :now, gg.created_by, 1, gg.id
FROM group_grants gg JOIN group_members m ON m.group_name = gg.group_name
WHERE gg.group_name = :group_name AND gg.state = 'active'
  AND (:person = '' OR m.person = :person) AND (:group_grant = '' OR gg.id = :group_grant)
ON CONFLICT DO NOTHING
RETURNING id, person

-- name: end_grants_of_members(group_name, person, group_grant)
-- Those that came from a group (empty: any), for one person or from one group grant, where those are named.
UPDATE grants SET state = 'revoked', version = version + 1
WHERE state <> 'revoked'
  AND (:person = '' OR person = :person) AND (:group_grant = '' OR group_grant = :group_grant)
  AND group_grant IN (SELECT gg.id FROM group_grants gg WHERE :group_name = '' OR gg.group_name = :group_name)
RETURNING id, person

-- name: list_group_grants(group_name)
-- An empty name: all of them.
SELECT id, scope, agent, expires_seconds, created_at, created_by
FROM group_grants WHERE state = 'active' AND (:group_name = '' OR group_name = :group_name) ORDER BY created_at, id

-- name: end_group_grants(group_name, id)
-- Of a group, or one (empty names nothing). No row: there is none that is not ended.
UPDATE group_grants SET state = 'ended' WHERE state = 'active' AND (group_name = :group_name OR id = :id) RETURNING id

-- name: remove_members(group_name)
DELETE FROM group_members WHERE group_name = :group_name RETURNING person

-- name: remove_group(name)
DELETE FROM groups WHERE name = :name RETURNING name

-- name: waiting_grants(person, now)
-- What a device of this person may pick up.
SELECT g.id, g.agent, g.scope FROM grants g
WHERE g.person = :person AND g.claimable = 1 AND g.device IS NULL AND g.state = 'active' AND g.administrator = 0
  AND (g.expires_at = 0 OR g.expires_at > :now)
ORDER BY g.created_at, g.id

-- name: taken_grants(device, now)
-- What the agents of a device have picked up, and still stands.
SELECT g.id, g.agent, g.scope FROM grants g JOIN device_keys k ON k.thumbprint = g.device
WHERE k.device = :device AND k.state = 'active' AND g.claimable = 1 AND g.state <> 'revoked' AND g.administrator = 0
  AND (g.expires_at = 0 OR g.expires_at > :now)
ORDER BY g.created_at, g.id

-- name: lapsed_grants(person, now)
-- What was granted with an invite that nobody has used in time. Whoever holds one that can still be used has the grant.
SELECT g.id FROM grants g
WHERE g.person = :person AND g.claimable = 0 AND g.device IS NULL AND g.state = 'active' AND g.administrator = 0
  AND g.scope <> '{"servers":{}}'
  AND NOT EXISTS (SELECT 1 FROM invites i WHERE i.grant_id = g.id AND i.used_at IS NULL AND i.expires_at > :now)
ORDER BY g.created_at, g.id

-- name: let_wait(id)
-- Required, for each of lapsed_grants: it waits for a device of its person's, as what is granted to somebody who has one.
UPDATE grants SET claimable = 1 WHERE id = :id AND claimable = 0 AND device IS NULL AND state = 'active' RETURNING id

-- name: claim_grants(person, thumbprint, agent, now)
-- Binds what waits for this person to a device key of theirs: grants for that agent, and for any.
UPDATE grants SET device = :thumbprint, agent = :agent, version = version + 1
WHERE person = :person AND claimable = 1 AND device IS NULL AND state = 'active' AND administrator = 0
  AND (expires_at = 0 OR expires_at > :now) AND agent IN ('', :agent)
  AND EXISTS (
    SELECT 1 FROM device_keys k JOIN devices d ON d.id = k.device JOIN persons p ON p.name = k.person
    WHERE k.thumbprint = :thumbprint AND k.person = :person
      AND k.state = 'active' AND d.state = 'active' AND p.state = 'active'
  )
RETURNING id

-- name: claimed_grants(thumbprint, now)
-- What was picked up by a device key and still stands: handed out again, should the answer have been lost.
SELECT g.id, g.expires_at FROM grants g
WHERE g.device = :thumbprint AND g.claimable = 1 AND g.state <> 'revoked' AND g.administrator = 0
  AND (g.expires_at = 0 OR g.expires_at > :now)
ORDER BY g.created_at, g.id
