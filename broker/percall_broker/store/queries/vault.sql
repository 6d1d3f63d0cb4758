-- Sealed secrets. Nothing here ever sees one open.

-- name: read_secret(name, version)
SELECT name, version, sealed, wrapped_key, key_encryption_key FROM secrets WHERE name = :name AND version = :version

-- name: newest_secret_version(name)
SELECT COALESCE(MAX(version), 0) AS version FROM secrets WHERE name = :name

-- name: add_secret(name, version, sealed, wrapped_key, key_encryption_key, fingerprint, created_at)
-- No row: that version exists already, and stands.
INSERT INTO secrets (name, version, sealed, wrapped_key, key_encryption_key, fingerprint, created_at)
VALUES (:name, :version, :sealed, :wrapped_key, :key_encryption_key, :fingerprint, :created_at)
ON CONFLICT DO NOTHING
RETURNING version

-- name: set_secret_end(name, version, expires_at)
-- No row: there is no such version.
UPDATE secrets SET expires_at = :expires_at WHERE name = :name AND version = :version RETURNING version

-- name: secrets_wrapped_by_others(key_encryption_key, limit)
-- Long reading. What a rotation has still to wrap anew.
SELECT name, version, wrapped_key, key_encryption_key FROM secrets
WHERE key_encryption_key <> :key_encryption_key ORDER BY name, version LIMIT :limit

-- name: a_secret_wrapped_by(key_encryption_key)
-- Long reading. Whether a key is the one that its name stands for shows where it opens something.
SELECT name, version, wrapped_key, key_encryption_key FROM secrets
WHERE key_encryption_key = :key_encryption_key ORDER BY name, version LIMIT 1

-- name: rewrap_secret(name, version, wrapped_key, key_encryption_key, old_key_encryption_key)
UPDATE secrets SET wrapped_key = :wrapped_key, key_encryption_key = :key_encryption_key
WHERE name = :name AND version = :version AND key_encryption_key = :old_key_encryption_key
RETURNING version

-- name: key_encryption_keys_in_use()
SELECT DISTINCT key_encryption_key FROM secrets ORDER BY key_encryption_key
