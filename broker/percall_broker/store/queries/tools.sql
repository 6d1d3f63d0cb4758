-- Tools as servers define them, what of that is accepted, and as whom they were last seen.
-- holder: empty for everybody; a grant for what its laptop alone has said.

-- name: pins_of(server, holder)
-- What is accepted for everybody, and what this holder saw first.
SELECT p.tool, p.holder, p.digest, d.annotations FROM tool_pins p
JOIN tool_definitions d ON d.server = p.server AND d.digest = p.digest
WHERE p.server = :server AND (p.holder = '' OR p.holder = :holder)
ORDER BY p.pinned_at, p.digest

-- name: sightings_of(server, holder)
SELECT tool, digest, differs FROM tool_sightings WHERE server = :server AND holder = :holder

-- name: read_definition(server, digest)
SELECT tool, definition FROM tool_definitions WHERE server = :server AND digest = :digest

-- name: define_tool(server, tool, digest, definition, annotations, created_at)
INSERT INTO tool_definitions (server, tool, digest, definition, annotations, created_at)
VALUES (:server, :tool, :digest, :definition, :annotations, :created_at)
ON CONFLICT DO NOTHING

-- name: may_pin_more(server, holder, more, most)
-- Required before pin_first_sight, once for all of them. No row: so many tools would be pinned at first sight.
SELECT 1 AS room WHERE (SELECT COUNT(*) FROM tool_pins m WHERE m.server = :server AND m.holder = :holder) + :more <= :most

-- name: pin_first_sight(server, tool, holder, digest, pinned_at)
-- No row: something is accepted of this tool already.
INSERT INTO tool_pins (server, tool, holder, digest, pinned_at, pinned_by)
SELECT :server, :tool, :holder, :digest, :pinned_at, ''
WHERE NOT EXISTS (
    SELECT 1 FROM tool_pins p WHERE p.server = :server AND p.tool = :tool AND (p.holder = '' OR p.holder = :holder)
  )
ON CONFLICT DO NOTHING
RETURNING tool

-- name: see_tool(server, tool, holder, digest, differs, seen_at)
INSERT INTO tool_sightings (server, tool, holder, digest, differs, seen_at)
VALUES (:server, :tool, :holder, :digest, :differs, :seen_at)
ON CONFLICT (server, tool, holder) DO UPDATE
SET digest = excluded.digest, differs = excluded.differs, seen_at = excluded.seen_at

-- name: forget_definitions(server)
-- Those that nobody accepted and nobody sees any more. The tool's name, which a digest covers too, is for the indexes.
DELETE FROM tool_definitions
WHERE server = :server
  AND NOT EXISTS (
    SELECT 1 FROM tool_pins p
    WHERE p.server = :server AND p.tool = tool_definitions.tool AND p.digest = tool_definitions.digest
  )
  AND NOT EXISTS (
    SELECT 1 FROM tool_sightings s
    WHERE s.server = :server AND s.tool = tool_definitions.tool AND s.digest = tool_definitions.digest
  )

-- name: pin_tool(server, tool, digest, pinned_at, pinned_by)
-- By an administrator, for everybody. No row: nobody has seen such a definition.
INSERT INTO tool_pins (server, tool, holder, digest, pinned_at, pinned_by)
SELECT d.server, d.tool, '', d.digest, :pinned_at, :pinned_by FROM tool_definitions d
WHERE d.server = :server AND d.tool = :tool AND d.digest = :digest
ON CONFLICT (server, tool, holder, digest) DO UPDATE
SET pinned_at = excluded.pinned_at, pinned_by = excluded.pinned_by
RETURNING digest

-- name: unpin_tool(server, tool)
DELETE FROM tool_pins WHERE server = :server AND tool = :tool AND holder = ''

-- name: forget_pins(server)
-- With its server: another one of this name has other tools.
DELETE FROM tool_pins WHERE server = :server

-- name: forget_sightings(server)
DELETE FROM tool_sightings WHERE server = :server

-- name: forget_all_definitions(server)
DELETE FROM tool_definitions WHERE server = :server

-- name: touch_grant(id)
-- As touch_grants, for one.
UPDATE grants SET version = version + 1 WHERE id = :id RETURNING id

-- name: list_tools(server)
-- Long reading. Each definition that is accepted or seen: for everybody (pinned_by: the administrator), by how many
-- laptops first, by how many now, and for how many of those it is not what is accepted.
SELECT d.tool, d.digest, d.definition, d.created_at,
       (SELECT COUNT(*) FROM tool_pins p WHERE (p.server, p.tool, p.digest, p.holder) = (d.server, d.tool, d.digest, '')) AS pinned,
       (SELECT COALESCE(MAX(p.pinned_by), '') FROM tool_pins p
        WHERE (p.server, p.tool, p.digest, p.holder) = (d.server, d.tool, d.digest, '')) AS pinned_by,
       (SELECT COALESCE(MAX(p.pinned_at), 0) FROM tool_pins p
        WHERE (p.server, p.tool, p.digest, p.holder) = (d.server, d.tool, d.digest, '')) AS pinned_at,
       (SELECT COUNT(*) FROM tool_sightings s
        WHERE (s.server, s.tool, s.digest) = (d.server, d.tool, d.digest) AND s.holder <> '') AS laptops,
       (SELECT COUNT(*) FROM tool_sightings s
        WHERE (s.server, s.tool, s.digest) = (d.server, d.tool, d.digest)
          AND NOT EXISTS (
            SELECT 1 FROM tool_pins p WHERE (p.server, p.tool, p.digest, p.holder) = (d.server, d.tool, d.digest, '')
          )
          AND (EXISTS (SELECT 1 FROM tool_pins e WHERE e.server = d.server AND e.tool = d.tool AND e.holder = '')
            OR NOT EXISTS (
              SELECT 1 FROM tool_pins h WHERE (h.server, h.tool, h.digest, h.holder) = (d.server, d.tool, d.digest, s.holder)
            ))) AS refused
FROM tool_definitions d WHERE d.server = :server
ORDER BY d.tool, d.created_at, d.digest

-- name: first_seen(server, tool)
-- What laptops saw first of a tool, the commonest first: what a change is compared with where nothing is accepted yet.
SELECT p.digest, COUNT(*) AS holders FROM tool_pins p
WHERE p.server = :server AND p.tool = :tool AND p.holder <> ''
GROUP BY p.digest ORDER BY holders DESC, p.digest LIMIT 1
