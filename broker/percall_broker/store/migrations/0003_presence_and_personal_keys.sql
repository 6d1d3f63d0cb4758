-- A person's presence: the public half of a key that only a passphrase opens (kind passphrase). Neither the passphrase
-- nor the private half is ever here. salt and public_key are base64url.
CREATE TABLE presence_keys (
    person TEXT NOT NULL REFERENCES persons (name),
    kind TEXT NOT NULL,
    salt TEXT NOT NULL,
    passes BIGINT NOT NULL,
    memory_bytes BIGINT NOT NULL,
    public_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,             -- seconds
    PRIMARY KEY (person, kind)
);

-- Device keys that were introduced with their person's passphrase: personal keys are used for these alone.
CREATE TABLE vouched_device_keys (
    thumbprint TEXT NOT NULL,
    person TEXT NOT NULL REFERENCES persons (name),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (thumbprint, person)
);

-- An automation's grant administers without presence, in the areas that it may change: by commas, in `may`.
ALTER TABLE grants ADD COLUMN automation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN may TEXT NOT NULL DEFAULT '';

-- A person's own key for a server, in `secrets` under personal/PERSON/SERVER. binding: a digest of where the entry
-- sent the key when its owner gave it. offered_at: when the owner offered it as the shared key; 0: never.
CREATE TABLE personal_keys (
    server TEXT NOT NULL REFERENCES servers (name),
    person TEXT NOT NULL REFERENCES persons (name),
    secret_version BIGINT NOT NULL,
    binding TEXT NOT NULL,
    offered_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (server, person)
);

-- Equal for equal keys, under an HMAC of the broker's own; empty for secrets from before, and for the broker's own.
ALTER TABLE secrets ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';

-- Which key a request carried: secret_owner is empty for the shared one; version 0: none, or from before.
ALTER TABLE log ADD COLUMN secret_owner TEXT NOT NULL DEFAULT '';
ALTER TABLE log ADD COLUMN secret_version BIGINT NOT NULL DEFAULT 0;
