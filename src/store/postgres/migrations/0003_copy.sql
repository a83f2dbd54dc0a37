-- A store that is being copied into this database: how far it is. While verified_at is NULL nobody may serve from it.
CREATE TABLE copies (
    id           integer PRIMARY KEY CHECK (id = 1),
    source       bytea NOT NULL,    -- by what the source is known again
    begun_at     bigint NOT NULL,
    newest_event bigint NOT NULL,   -- of the source
    next_row     bigint NOT NULL,   -- above every id of the source
    part         text NOT NULL,     -- the table under way
    after        bytea,             -- the key of its row that was copied last
    rows         bigint NOT NULL,   -- copied, of all tables
    verified_at  bigint
);
