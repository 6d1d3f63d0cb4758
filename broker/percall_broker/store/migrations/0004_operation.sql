-- What the operators of a broker need: which replicas serve this store, and events for their webhooks.

-- One row for each process that serves: written every ten seconds, and whenever it is asked whether it could write.
CREATE TABLE replicas (
    id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);

-- Endpoints. Their URLs and keys are sealed in `secrets`, under the name `webhook/` and the id. A row is never deleted, so
-- that what is announced meanwhile cannot fail for want of it.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    origin TEXT NOT NULL,                   -- where it is; the whole URL may be a secret and is sealed with its key
    state TEXT NOT NULL,                    -- active, removed
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    sender TEXT NOT NULL,                   -- the replica that sends now; empty: none
    sender_until BIGINT NOT NULL,           -- when another one may take over
    attempts BIGINT NOT NULL,               -- that failed, since the last that did not
    retry_at BIGINT NOT NULL,               -- milliseconds, like sender_until
    problem TEXT NOT NULL                   -- why the last attempt failed; empty: it did not
);

-- What happened, once: the id is made from what happened, so two replicas that see it announce one event.
CREATE TABLE events (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    time_ms BIGINT NOT NULL,
    token TEXT NOT NULL,                    -- of the writing that was first, which alone queues it
    body TEXT NOT NULL                      -- the JSON that is signed and sent
);

-- What each endpoint has still to be sent, in this order.
CREATE TABLE deliveries (
    seq {sequence},
    webhook TEXT NOT NULL,
    event TEXT NOT NULL
);
CREATE UNIQUE INDEX deliveries_webhook_event ON deliveries (webhook, event);
