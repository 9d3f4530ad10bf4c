-- People who signed in. The id is GitHub's number; below zero: ours, of one who has no GitHub account
-- linked yet.
CREATE TABLE users (
    id               BIGINT NOT NULL PRIMARY KEY,
    login            TEXT   NOT NULL,
    preferences      TEXT   NOT NULL DEFAULT '{}',
    -- installations that GitHub lets the person see, as JSON
    installations    TEXT   NOT NULL DEFAULT '[]',
    created_at       BIGINT NOT NULL
);

-- What a person signs in with.
CREATE TABLE accounts (
    provider         TEXT   NOT NULL CHECK (provider IN ('github', 'vercel')),
    subject          TEXT   NOT NULL,
    user_id          BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    login            TEXT   NOT NULL,
    -- only one that the provider says is verified
    email            TEXT,
    linked_at        BIGINT NOT NULL,
    PRIMARY KEY (provider, subject)
);
CREATE UNIQUE INDEX accounts_user ON accounts (user_id, provider);

-- The id is the hash of what the cookie holds.
CREATE TABLE sessions (
    id               TEXT   NOT NULL PRIMARY KEY,
    user_id          BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client           TEXT   NOT NULL,
    created_at       BIGINT NOT NULL,
    used_at          BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);

-- Sign-ins that came back from the provider: each counts once.
CREATE TABLE finished_signins (
    state            TEXT   NOT NULL PRIMARY KEY,
    ends_at          BIGINT NOT NULL
);

-- Who changed keys, connectors, sign-ins and the instance.
CREATE TABLE audit_log (
    seq              INTEGER PRIMARY KEY,
    at               BIGINT NOT NULL,
    user_id          BIGINT,
    action           TEXT   NOT NULL,
    about            TEXT   NOT NULL
);
CREATE INDEX audit_log_user ON audit_log (user_id, seq);

-- What the instance learned by itself, sealed: the App that /setup made.
CREATE TABLE instance (
    name             TEXT   NOT NULL PRIMARY KEY,
    sealed           TEXT   NOT NULL,
    saved_at         BIGINT NOT NULL
);

-- What people page through.
CREATE INDEX tasks_person ON tasks (requester_id, created_at);
CREATE INDEX tasks_requester ON tasks (lower(requester), seq);
CREATE INDEX tasks_repository_name ON tasks (lower(repository), seq);
CREATE INDEX tasks_agent ON tasks (agent, seq);
CREATE INDEX tasks_state ON tasks (state, seq);
CREATE INDEX tasks_delivery ON tasks (delivery_guid, seq);
CREATE INDEX deliveries_repository ON deliveries (lower(repository), seq);
CREATE INDEX deliveries_by_thread ON deliveries (lower(repository), issue_number, seq);
CREATE INDEX deliveries_decision ON deliveries (decision, seq);

-- The comment, review or issue that a delivery is about, by GitHub's number.
ALTER TABLE deliveries ADD COLUMN object_id BIGINT;
