-- Questions to people, and what they answered.

-- kind: call (may this one call go on) or grant (may this agent have more, for a while).
-- state: pending, allowed, used, denied, ended (with its grant, or taken back). One whose end has passed is none of
-- these any more, whatever stands here.
CREATE TABLE approvals (
    seq {sequence},
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    grant_id TEXT NOT NULL REFERENCES grants (id),
    person TEXT NOT NULL,
    agent TEXT NOT NULL,
    device TEXT NOT NULL,                   -- the device's name
    server TEXT NOT NULL,
    method TEXT NOT NULL,
    tool TEXT NOT NULL,
    subject TEXT NOT NULL,                  -- digest of all that must be the same in a further attempt of the same call
    arguments TEXT NOT NULL,                -- digest of their exact bytes, which are sealed under `call`
    call TEXT NOT NULL,                     -- the call that asked first
    session TEXT NOT NULL,                  -- the run of the shim that asked, as it says; empty: it does not
    policies TEXT NOT NULL,                 -- canonical JSON: the ids of those that asked
    policy_version BIGINT NOT NULL,
    separate INTEGER NOT NULL,              -- 1: whoever asks may not answer
    reason TEXT NOT NULL,                   -- the policies' words; for a grant, the person's own
    wanted TEXT NOT NULL,                   -- canonical JSON of what a grant is asked to name; empty for a call
    digest TEXT NOT NULL,                   -- of all of the above and of the groups: what whoever answers has seen
    asked_ms BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,             -- seconds
    answer TEXT NOT NULL DEFAULT '',        -- allow, deny, never
    scope TEXT NOT NULL DEFAULT '',         -- of an allow: once, shape, session
    answered_ms BIGINT NOT NULL DEFAULT 0,
    used_by TEXT NOT NULL DEFAULT ''        -- the call that it let pass, or the grant that it made
);
CREATE UNIQUE INDEX approvals_id ON approvals (id);
-- One question at a time about one call.
CREATE UNIQUE INDEX approvals_subject ON approvals (grant_id, subject) WHERE state IN ('pending', 'allowed', 'denied');
CREATE INDEX approvals_grant ON approvals (grant_id, answered_ms);
CREATE INDEX approvals_open ON approvals (seq) WHERE state = 'pending';
CREATE INDEX approvals_call ON approvals (call);

-- Who must answer: of each group, one person. An empty group stands for the administrators.
CREATE TABLE approval_groups (
    approval TEXT NOT NULL,
    group_name TEXT NOT NULL,
    answered_by TEXT NOT NULL DEFAULT '',
    presence TEXT NOT NULL DEFAULT '',      -- how they showed that they were there
    answered_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (approval, group_name)
);
CREATE INDEX approval_groups_open ON approval_groups (group_name, approval) WHERE answered_by = '';

-- Answers that hold for more than one call; the id is the approval's that they were given to.
-- effect allow: calls of one grant, of one shape, under one version of the policies, until an end or for a session.
-- effect never: every call of one tool by one person, under whatever grant and policies, until it is lifted.
CREATE TABLE lasting_answers (
    id TEXT PRIMARY KEY,
    effect TEXT NOT NULL,
    state TEXT NOT NULL,                    -- active, lifted, ended
    grant_id TEXT NOT NULL,
    person TEXT NOT NULL,
    server TEXT NOT NULL,
    tool TEXT NOT NULL,
    rule TEXT NOT NULL,                     -- what the policies asked for, as a digest: version, groups, separate
    shape TEXT NOT NULL,                    -- keyed digest of the arguments that must be the same
    varying TEXT NOT NULL,                  -- canonical JSON: the names of those that may differ
    session TEXT NOT NULL,                  -- empty: any
    expires_at BIGINT NOT NULL,             -- seconds; 0: until it is lifted
    given_by TEXT NOT NULL,
    given_ms BIGINT NOT NULL,
    lifted_by TEXT NOT NULL DEFAULT ''
);
CREATE INDEX lasting_answers_grant ON lasting_answers (grant_id, server, tool) WHERE state = 'active';
CREATE INDEX lasting_answers_person ON lasting_answers (person) WHERE state = 'active';

-- The approval that a call waits for, or that it was permitted by.
ALTER TABLE log ADD COLUMN approval TEXT NOT NULL DEFAULT '';

-- json: an event as it is; slack: as a message for a channel.
ALTER TABLE webhooks ADD COLUMN format TEXT NOT NULL DEFAULT 'json';
