-- Times are milliseconds since 1970 (UTC), ids text, JSON text: the same on both engines.

CREATE TABLE installations (
    id               BIGINT NOT NULL PRIMARY KEY,
    account          TEXT   NOT NULL,
    suspended_at     BIGINT,
    deleted_at       BIGINT,
    -- GitHub told us to wait for this installation until then
    blocked_until    BIGINT NOT NULL DEFAULT 0,
    updated_at       BIGINT NOT NULL
);

-- Every webhook delivery: those that may start something before they are answered, with their
-- packed body; the rest lazily, as one small row.
CREATE TABLE deliveries (
    seq              INTEGER PRIMARY KEY,
    guid             TEXT   NOT NULL,
    meaning          TEXT,
    event            TEXT   NOT NULL,
    action           TEXT   NOT NULL,
    installation_id  BIGINT,
    repository_id    BIGINT,
    repository       TEXT   NOT NULL,
    issue_number     BIGINT,
    sender           TEXT   NOT NULL,
    received_at      BIGINT NOT NULL,
    decide_at        BIGINT,
    attempts         BIGINT NOT NULL DEFAULT 0,
    decided_at       BIGINT,
    decision         TEXT,
    facts            TEXT   NOT NULL DEFAULT '',
    body             BYTEA
);
CREATE UNIQUE INDEX deliveries_guid ON deliveries (guid);
CREATE UNIQUE INDEX deliveries_meaning ON deliveries (meaning) WHERE meaning IS NOT NULL;
CREATE INDEX deliveries_pending ON deliveries (decide_at) WHERE decide_at IS NOT NULL;
CREATE INDEX deliveries_thread ON deliveries (repository_id, issue_number, seq) WHERE meaning IS NOT NULL;

CREATE TABLE tasks (
    seq              INTEGER PRIMARY KEY,
    id               TEXT   NOT NULL,
    delivery_guid    TEXT   NOT NULL,
    meaning          TEXT   NOT NULL,
    installation_id  BIGINT NOT NULL,
    repository_id    BIGINT NOT NULL,
    repository       TEXT   NOT NULL,
    issue_number     BIGINT NOT NULL,
    is_pull          BOOLEAN NOT NULL,
    subject          TEXT   NOT NULL,
    triggered_at     BIGINT NOT NULL,
    requester_id     BIGINT NOT NULL,
    requester        TEXT   NOT NULL,
    agent            TEXT   NOT NULL,
    options          TEXT   NOT NULL,
    request          TEXT   NOT NULL,
    inputs           TEXT,
    comment_id       BIGINT,
    state            TEXT   NOT NULL CHECK (state IN
        ('queued', 'running', 'succeeded', 'no_changes', 'failed', 'cancelled', 'timed_out', 'refused')),
    reason           TEXT   NOT NULL DEFAULT '',
    lease_owner      TEXT,
    lease_until      BIGINT,
    fence            BIGINT NOT NULL DEFAULT 0,
    deaths           BIGINT NOT NULL DEFAULT 0,
    cancelled_by     TEXT,
    next_log_seq     BIGINT NOT NULL DEFAULT 1,
    created_at       BIGINT NOT NULL,
    started_at       BIGINT,
    finished_at      BIGINT
);
CREATE UNIQUE INDEX tasks_id ON tasks (id);
CREATE UNIQUE INDEX tasks_meaning ON tasks (meaning);
CREATE INDEX tasks_queue ON tasks (installation_id, seq) WHERE state = 'queued';
CREATE INDEX tasks_running ON tasks (installation_id) WHERE state = 'running';
CREATE INDEX tasks_turn ON tasks (installation_id, started_at) WHERE started_at IS NOT NULL;
CREATE INDEX tasks_lease ON tasks (lease_until) WHERE state = 'running';
CREATE INDEX tasks_open_thread ON tasks (repository_id, issue_number, seq) WHERE state IN ('queued', 'running');
CREATE INDEX tasks_thread ON tasks (repository_id, issue_number, seq);
CREATE INDEX tasks_repository ON tasks (repository_id, seq);

CREATE TABLE runs (
    id               TEXT   NOT NULL PRIMARY KEY,
    task_id          TEXT   NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    attempt          BIGINT NOT NULL,
    step             TEXT   NOT NULL,
    facts            TEXT   NOT NULL,
    stdout_at        BIGINT NOT NULL DEFAULT 0,
    stderr_at        BIGINT NOT NULL DEFAULT 0,
    started_at       BIGINT NOT NULL
);
CREATE UNIQUE INDEX runs_attempt ON runs (task_id, attempt);

-- The log of a task, as packed chunks of lines. seq is that of the first line.
CREATE TABLE log_entries (
    task_id          TEXT   NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    seq              BIGINT NOT NULL,
    lines            BIGINT NOT NULL,
    run_id           TEXT   NOT NULL,
    at               BIGINT NOT NULL,
    body             BYTEA  NOT NULL,
    PRIMARY KEY (task_id, seq)
);

-- Outward effects promised in a transaction, delivered after it. id says what the effect is, so
-- that the same promise made twice is one row.
CREATE TABLE outbox (
    seq              INTEGER PRIMARY KEY,
    id               TEXT   NOT NULL,
    installation_id  BIGINT NOT NULL,
    repository_id    BIGINT NOT NULL,
    issue_number     BIGINT NOT NULL,
    is_final         BOOLEAN NOT NULL,
    effect           TEXT   NOT NULL,
    created_at       BIGINT NOT NULL,
    attempts         BIGINT NOT NULL DEFAULT 0,
    due_at           BIGINT,
    done_at          BIGINT,
    error            TEXT   NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX outbox_id ON outbox (id);
CREATE INDEX outbox_due ON outbox (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_open ON outbox (repository_id, issue_number, seq) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_thread ON outbox (repository_id, issue_number, created_at);

-- Commands per person and UTC day.
CREATE TABLE daily_commands (
    user_id          BIGINT NOT NULL,
    day              BIGINT NOT NULL,
    commands         BIGINT NOT NULL,
    PRIMARY KEY (user_id, day)
);

-- Content-creating calls per installation and minute: GitHub allows 80 a minute and 500 an hour.
CREATE TABLE write_budget (
    installation_id  BIGINT NOT NULL,
    minute           BIGINT NOT NULL,
    writes           BIGINT NOT NULL,
    PRIMARY KEY (installation_id, minute)
);
