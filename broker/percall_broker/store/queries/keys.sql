-- Personal keys: a person's own key for a server. Sealed in `secrets` under personal/PERSON/SERVER, like every other.
-- Each change but a new version raises the versions of the person's grants (touch_grants), so that what was decided
-- before it is not recorded after it.

-- name: list_personal_keys(person, server)
-- An empty name: everybody's, of every server.
SELECT k.server, k.person, k.secret_version AS version, k.binding, k.offered_at, c.created_at
FROM personal_keys k JOIN secrets c ON c.name = 'personal/' || k.person || '/' || k.server AND c.version = k.secret_version
WHERE k.state = 'active' AND (:person = '' OR k.person = :person) AND (:server = '' OR k.server = :server)
ORDER BY k.server, k.person

-- name: newest_personal_key_version(server, person)
-- Also of one that was removed.
SELECT COALESCE(MAX(secret_version), 0) AS version FROM personal_keys WHERE server = :server AND person = :person

-- name: add_personal_key(server, person, version, binding, now)
-- No row: the person has one already.
INSERT INTO personal_keys (server, person, secret_version, binding, offered_at, created_at, state)
VALUES (:server, :person, :version, :binding, 0, :now, 'active')
ON CONFLICT (server, person) DO UPDATE SET secret_version = excluded.secret_version, binding = excluded.binding,
    offered_at = 0, created_at = excluded.created_at, state = 'active'
WHERE personal_keys.state = 'removed' AND personal_keys.secret_version < excluded.secret_version
RETURNING server

-- name: rotate_personal_key(server, person, version, binding)
-- What was offered was the old one.
UPDATE personal_keys SET secret_version = :version, binding = :binding, offered_at = 0
WHERE server = :server AND person = :person AND state = 'active' AND secret_version < :version
RETURNING server

-- name: confirm_personal_key(server, person, binding)
UPDATE personal_keys SET binding = :binding
WHERE server = :server AND person = :person AND state = 'active'
RETURNING server

-- name: offer_personal_key(server, person, offered_at)
-- 0 withdraws it.
UPDATE personal_keys SET offered_at = :offered_at
WHERE server = :server AND person = :person AND state = 'active'
RETURNING server

-- name: take_offered_key(server, person, version)
-- No row: that version is not offered, or no more.
UPDATE personal_keys SET state = 'removed', offered_at = 0
WHERE server = :server AND person = :person AND state = 'active' AND offered_at > 0 AND secret_version = :version
RETURNING server

-- name: remove_personal_keys(person, server)
-- An empty server: all of the person's.
UPDATE personal_keys SET state = 'removed', offered_at = 0
WHERE person = :person AND state = 'active' AND (:server = '' OR server = :server)
RETURNING server

-- name: forget_personal_secrets(person, server)
-- Every version of them. An empty server: all of the person's.
DELETE FROM secrets WHERE name IN (
    SELECT 'personal/' || k.person || '/' || k.server FROM personal_keys k
    WHERE k.person = :person AND (:server = '' OR k.server = :server)
)

-- name: held_keys()
-- Long reading. Every key that requests may carry, shared (its owner is empty) and personal, by its fingerprint.
SELECT u.server, u.owner, u.version, c.fingerprint, c.created_at
FROM (
    SELECT s.name AS server, '' AS owner, s.secret_version AS version, s.name AS secret
    FROM servers s WHERE s.state <> 'removed' AND s.secret_version > 0
    UNION ALL
    SELECT k.server, k.person, k.secret_version, 'personal/' || k.person || '/' || k.server
    FROM personal_keys k WHERE k.state = 'active'
) u JOIN secrets c ON c.name = u.secret AND c.version = u.version
ORDER BY c.fingerprint, u.server, u.owner

-- name: scopes_of(person, now)
-- What a person's grants allow that may be used now.
SELECT g.scope FROM grants g
WHERE g.person = :person AND g.state = 'active' AND g.administrator = 0 AND (g.expires_at = 0 OR g.expires_at > :now)
