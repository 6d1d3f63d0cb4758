-- A commit writes a page of each index that its rows are in. A call, its redemption and its outcome bear the call's own
-- id and are found by it; only other rows of a call (its requests, readings of its arguments) are looked for by `call`.
DROP INDEX log_call;
CREATE INDEX log_call ON log (call) WHERE id <> call;
