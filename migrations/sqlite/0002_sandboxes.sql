-- A sandbox that stays after the end of its run, until then or until it is cancelled.
ALTER TABLE runs ADD COLUMN kept_until BIGINT;
CREATE INDEX runs_kept ON runs (task_id) WHERE kept_until IS NOT NULL;

-- Disk images with the agents in them, by provider. contents names what is inside; a row that is
-- gone is made anew.
CREATE TABLE snapshots (
    provider         TEXT   NOT NULL PRIMARY KEY,
    id               TEXT   NOT NULL,
    contents         TEXT   NOT NULL,
    made_at          BIGINT NOT NULL,
    gone_at          BIGINT
);
