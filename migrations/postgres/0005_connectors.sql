-- MCP servers that people and installations link. sealed holds every secret of one, bound to its row.
CREATE TABLE connectors (
    id               TEXT   NOT NULL PRIMARY KEY,
    owner_kind       TEXT   NOT NULL CHECK (owner_kind IN ('person', 'installation')),
    owner_id         BIGINT NOT NULL,
    name             TEXT   NOT NULL,
    transport        TEXT   NOT NULL,
    sealed           TEXT   NOT NULL,
    is_enabled       BOOLEAN NOT NULL,
    saved_by         BIGINT NOT NULL,
    saved_at         BIGINT NOT NULL
);
CREATE UNIQUE INDEX connectors_owner ON connectors (owner_kind, owner_id, name);
