-- The organisation's policies, and how often those with a limit were used.

-- Append-only; the newest version is in force, and where there is none, 'permit what the grant permits'.
-- Whoever adds one raises the version of every server in the same transaction (as 0002_people.sql says), so that no
-- call is recorded under a policy that is no longer in force.
CREATE TABLE policies (
    version BIGINT PRIMARY KEY,
    files TEXT NOT NULL,                    -- canonical JSON: the text of each file, by its name
    message TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);

-- One row a policy and person: whoever counts locks it, so that no two replicas count at once.
CREATE TABLE limits (
    policy TEXT NOT NULL,
    person TEXT NOT NULL,
    used BIGINT NOT NULL,                   -- ever
    PRIMARY KEY (policy, person)
);

CREATE TABLE limit_uses (
    policy TEXT NOT NULL,
    person TEXT NOT NULL,
    time_ms BIGINT NOT NULL,
    call TEXT NOT NULL,
    PRIMARY KEY (policy, person, time_ms, call)
);
