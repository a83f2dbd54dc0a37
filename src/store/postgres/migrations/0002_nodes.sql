-- Who serves, and who does what only one may do at a time. Both go by the database's clock.

-- A node is one process that serves; it says every few seconds that it is there.
CREATE TABLE nodes (
    id         uuid PRIMARY KEY,
    name       text NOT NULL,
    version    text NOT NULL,
    started_at bigint NOT NULL,
    seen_at    bigint NOT NULL,
    stopped_at bigint               -- NULL: it has not said that it ends
);

-- Work that one node does at a time; whoever holds it may go on until then, and others may take it after that.
CREATE TABLE duties (
    name   text PRIMARY KEY,
    holder uuid NOT NULL,
    until  bigint NOT NULL
);
