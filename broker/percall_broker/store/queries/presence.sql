-- Presence keys, and the device keys that were introduced with them.

-- name: read_presence_key(person)
SELECT kind, salt, passes, memory_bytes, public_key FROM presence_keys WHERE person = :person

-- name: add_presence_key(person, kind, salt, passes, memory_bytes, public_key, created_at)
-- No row: the person has one already, and it stands.
INSERT INTO presence_keys (person, kind, salt, passes, memory_bytes, public_key, created_at)
VALUES (:person, :kind, :salt, :passes, :memory_bytes, :public_key, :created_at)
ON CONFLICT DO NOTHING
RETURNING person

-- name: change_presence_key(person, kind, salt, passes, memory_bytes, public_key, created_at, old_public_key)
-- No row: it is not the key any more that the change was signed with.
UPDATE presence_keys SET salt = :salt, passes = :passes, memory_bytes = :memory_bytes, public_key = :public_key,
    created_at = :created_at
WHERE person = :person AND kind = :kind AND public_key = :old_public_key
RETURNING person

-- name: is_presence_key(person, public_key)
-- Required where something happens that this key has signed.
SELECT person FROM presence_keys WHERE person = :person AND public_key = :public_key

-- name: remove_presence_key(person)
DELETE FROM presence_keys WHERE person = :person RETURNING person

-- name: vouch_device_key(thumbprint, person, created_at)
INSERT INTO vouched_device_keys (thumbprint, person, created_at) VALUES (:thumbprint, :person, :created_at)
ON CONFLICT DO NOTHING

-- name: forget_vouched_device_keys(person)
DELETE FROM vouched_device_keys WHERE person = :person

-- name: administrates(person)
-- Whether a person holds an administrator's grant that may still be used.
SELECT id FROM grants WHERE person = :person AND administrator = 1 AND automation = 0 AND state <> 'revoked' LIMIT 1
