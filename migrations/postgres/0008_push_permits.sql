-- Who lets the service push to forks in their name: their tokens of GitHub, sealed.
CREATE TABLE push_permits (
    user_id          BIGINT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    sealed           TEXT   NOT NULL,
    given_at         BIGINT NOT NULL
);
