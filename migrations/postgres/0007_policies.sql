-- The policy file of each repository, as last seen: which text holds, and what is wrong with a newer one.
CREATE TABLE policies (
    repository_id    BIGINT NOT NULL PRIMARY KEY,
    -- of the file that was last seen; empty: there is none
    seen_sha         TEXT   NOT NULL,
    -- the last good one
    holds            TEXT   NOT NULL,
    -- one sentence; empty: nothing is wrong
    fault            TEXT   NOT NULL,
    looked_at        BIGINT NOT NULL
);

-- GitHub's number of the check run of a task on a pull request.
ALTER TABLE tasks ADD COLUMN check_run_id BIGINT;
