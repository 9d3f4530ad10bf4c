-- Keys for models, sealed. The owner is a person (by GitHub's number) or an installation.
CREATE TABLE keys (
    id               TEXT   NOT NULL PRIMARY KEY,
    owner_kind       TEXT   NOT NULL CHECK (owner_kind IN ('person', 'installation')),
    owner_id         BIGINT NOT NULL,
    provider         TEXT   NOT NULL,
    sealed           TEXT   NOT NULL,
    fingerprint      TEXT   NOT NULL,
    saved_by         BIGINT NOT NULL,
    saved_at         BIGINT NOT NULL,
    used_at          BIGINT
);
CREATE UNIQUE INDEX keys_owner ON keys (owner_kind, owner_id, provider);

-- A run's right to call a model through the gateway, by the hash of what it shows. Ended with the
-- agent; without a task that runs it opens nothing.
CREATE TABLE grants (
    hash             TEXT   NOT NULL PRIMARY KEY,
    task_id          TEXT   NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    run_id           TEXT   NOT NULL,
    provider         TEXT   NOT NULL,
    -- NULL: the operator's
    key_id           TEXT,
    max_micro_usd    BIGINT,
    granted_at       BIGINT NOT NULL,
    ended_at         BIGINT,
    -- the limit that stopped it, as JSON
    stopped_by       TEXT
);
CREATE INDEX grants_task ON grants (task_id);

-- What the calls of a task cost, by vendor and model.
CREATE TABLE spending (
    task_id          TEXT   NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    provider         TEXT   NOT NULL,
    model            TEXT   NOT NULL,
    calls            BIGINT NOT NULL,
    tokens_in        BIGINT NOT NULL,
    tokens_out       BIGINT NOT NULL,
    micro_usd        BIGINT NOT NULL,
    -- calls whose price is not known, or whose tokens were guessed from their size
    unpriced         BIGINT NOT NULL,
    estimated        BIGINT NOT NULL,
    PRIMARY KEY (task_id, provider, model)
);

-- The same by UTC month (years times twelve), for limits: of a person, a repository, and of all (id 0).
CREATE TABLE monthly_spending (
    scope            TEXT   NOT NULL CHECK (scope IN ('person', 'repository', 'instance')),
    id               BIGINT NOT NULL,
    month            BIGINT NOT NULL,
    micro_usd        BIGINT NOT NULL,
    PRIMARY KEY (scope, id, month)
);
