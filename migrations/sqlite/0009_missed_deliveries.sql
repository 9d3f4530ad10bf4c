-- Deliveries that GitHub could not bring, as its own list tells: asked for again until they come.
CREATE TABLE missed_deliveries (
    guid             TEXT   NOT NULL PRIMARY KEY,
    -- GitHub's number of an attempt
    attempt          BIGINT NOT NULL,
    event            TEXT   NOT NULL,
    status           BIGINT NOT NULL,
    sent_at          BIGINT NOT NULL,
    found_at         BIGINT NOT NULL,
    asks             BIGINT NOT NULL DEFAULT 0,
    -- when to ask next; nothing: it came, or was given up
    ask_at           BIGINT,
    arrived_at       BIGINT
);
CREATE INDEX missed_deliveries_due ON missed_deliveries (ask_at) WHERE ask_at IS NOT NULL;
CREATE INDEX missed_deliveries_sent ON missed_deliveries (sent_at);

-- What a delivery has to wait for: earlier ones of its thread that are not decided.
CREATE INDEX deliveries_open ON deliveries (repository_id, issue_number, seq) WHERE decide_at IS NOT NULL;

-- Up to when something was done, by its name.
CREATE TABLE done_through (
    name             TEXT   NOT NULL PRIMARY KEY,
    at               BIGINT NOT NULL
);

-- Which App it is that the account has: another one knows nothing of it.
ALTER TABLE installations ADD COLUMN app_id BIGINT;

-- How often in a row GitHub did not find what an effect is about.
ALTER TABLE outbox ADD COLUMN times_missing BIGINT NOT NULL DEFAULT 0;

-- Whose key or connector it was about, where it belongs to an account.
ALTER TABLE audit_log ADD COLUMN installation_id BIGINT;
CREATE INDEX audit_log_installation ON audit_log (installation_id, seq) WHERE installation_id IS NOT NULL;

-- The last word that stopped what was asked for on a thread before it: a command may come after it (fault F41).
CREATE TABLE thread_stops (
    repository_id    BIGINT NOT NULL,
    issue_number     BIGINT NOT NULL,
    stopped_by       TEXT   NOT NULL,
    written_at       BIGINT NOT NULL,
    PRIMARY KEY (repository_id, issue_number)
);
