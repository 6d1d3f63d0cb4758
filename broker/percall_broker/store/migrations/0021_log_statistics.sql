-- How many rows of what kind a log has that has grown: a quarter are calls, and an id is one. Told and not counted, so
-- that plans do not change as it grows. Without it SQLite takes each index for as good as the others, and went through all
-- calls for those of the last minute. PostgreSQL counts by itself.
{log_statistics};
