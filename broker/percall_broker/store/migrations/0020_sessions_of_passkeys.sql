-- Which passkey opened a session, which ends when that is forgotten; empty where none did.
-- Of those that are open by a passkey, nobody can say by which one.
DELETE FROM console_sessions WHERE how = 'passkey';
ALTER TABLE console_sessions ADD COLUMN passkey TEXT NOT NULL DEFAULT '';
