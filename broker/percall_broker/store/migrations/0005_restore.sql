-- What came out of a backup, and has still to be looked at by an administrator.

CREATE TABLE restores (
    seq {sequence},
    restored_at BIGINT NOT NULL,
    backup_created_at BIGINT NOT NULL,
    log_until_ms BIGINT NOT NULL            -- the last thing that the backup knows of
);

-- Grants that were active in the backup, and the version at which the restore suspended them: who changes one since,
-- by resuming or revoking it, has looked at it.
CREATE TABLE restored_grants (
    grant_id TEXT PRIMARY KEY REFERENCES grants (id),
    version BIGINT NOT NULL
);
