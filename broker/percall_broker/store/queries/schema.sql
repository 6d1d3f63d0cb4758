-- name: read_migrations()
SELECT number FROM migrations ORDER BY number
