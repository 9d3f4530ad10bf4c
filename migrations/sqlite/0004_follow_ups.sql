-- What a person and an agent said to each other, both sides, with the comments it stands in.
CREATE TABLE task_messages (
    task_id          TEXT   NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    author           TEXT   NOT NULL CHECK (author IN ('person', 'agent')),
    name             TEXT   NOT NULL,
    comment_id       BIGINT,
    body             TEXT   NOT NULL,
    at               BIGINT NOT NULL,
    PRIMARY KEY (task_id, author)
);

-- An agent's own record of its conversation, packed and sealed, so that a later task can resume it.
CREATE TABLE conversations (
    task_id          TEXT   NOT NULL PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    session          TEXT   NOT NULL,
    sealed           BYTEA  NOT NULL,
    kept_at          BIGINT NOT NULL
);

-- The sandbox that a run took over from an earlier one, by name.
ALTER TABLE runs ADD COLUMN sandbox TEXT;
CREATE INDEX runs_sandbox ON runs (sandbox) WHERE sandbox IS NOT NULL;
