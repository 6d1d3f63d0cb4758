-- Which passkey opened a session, which ends when that is forgotten; empty where none did.
ALTER TABLE console_sessions ADD COLUMN passkey TEXT NOT NULL DEFAULT '';
