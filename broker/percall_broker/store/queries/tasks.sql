-- Tasks of remote servers: each is its own grant's.

-- name: remember_task(server, task, grant_id, created_at)
-- The first grant that was given it keeps it.
INSERT INTO tasks (server, task, grant_id, created_at) VALUES (:server, :task, :grant_id, :created_at)
ON CONFLICT DO NOTHING

-- name: is_task_of(server, task, grant_id)
SELECT task FROM tasks WHERE server = :server AND task = :task AND grant_id = :grant_id

-- name: tasks_of(server, grant_id, limit)
-- The newest of a grant's.
SELECT task FROM tasks WHERE server = :server AND grant_id = :grant_id ORDER BY created_at DESC LIMIT :limit

-- name: forget_tasks(before)
DELETE FROM tasks WHERE created_at < :before
