-- Clustered keys are sequential integers, so that history appends: a unique index on random ids over the whole
-- history costs more than half of the throughput at ten million rows.

CREATE TABLE accounts (
    id   INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE
) STRICT;

-- Raw webhooks, kept for replay and removed after retention.raw.
CREATE TABLE webhooks (
    id          INTEGER PRIMARY KEY,
    account     INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    headers     TEXT NOT NULL,
    body        BLOB NOT NULL
) STRICT;

-- Every event of every authentic webhook, with its one end state.
CREATE TABLE events (
    id           INTEGER PRIMARY KEY,
    webhook      INTEGER,           -- NULL: a receipt without body
    place        INTEGER NOT NULL,  -- in the webhook, from 0
    account      INTEGER NOT NULL,
    received_at  INTEGER NOT NULL,
    request_id   TEXT NOT NULL,
    kind         TEXT NOT NULL,
    event_time   INTEGER,
    provider_key TEXT,
    state        INTEGER NOT NULL,  -- 0 stored, 1 duplicate, 2 quarantined, 3 ignored
    conflict     INTEGER NOT NULL,  -- a duplicate whose time differs from the first one's
    reason       TEXT,
    detail       TEXT,
    message      INTEGER            -- the message it became or changed
) STRICT;
CREATE INDEX events_of_message ON events (message) WHERE message IS NOT NULL;

-- Look-ups by an id that falls anywhere, which are rare. Kept in buckets of 4096 events, so that writes touch the
-- pages of the newest bucket only; a look-up probes them from the newest on.
CREATE TABLE ids (
    bucket INTEGER NOT NULL,
    id     BLOB NOT NULL,           -- 16 bytes: a UUID, or the first half of a SHA-256
    kind   INTEGER NOT NULL,        -- 0 message, 1 outbox (webhook-id), 2 event (provider key)
    row    INTEGER NOT NULL,
    PRIMARY KEY (bucket, id, kind, row)
) STRICT, WITHOUT ROWID;

-- What a repeat carries again. Ordered by event time, so that inserts append; key = first half of SHA-256.
CREATE TABLE dedupe (
    account    INTEGER NOT NULL,
    event_time INTEGER NOT NULL,
    key        BLOB NOT NULL,
    event      INTEGER NOT NULL,
    PRIMARY KEY (account, event_time, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE conversations (
    id        INTEGER PRIMARY KEY,
    uuid      BLOB NOT NULL UNIQUE,
    account   INTEGER NOT NULL,
    customer  BLOB NOT NULL,
    channel   TEXT NOT NULL,
    dialog_id TEXT NOT NULL,
    own       TEXT NOT NULL,
    peer      TEXT NOT NULL,
    named_at  INTEGER NOT NULL,
    tm_create INTEGER NOT NULL,
    tm_update INTEGER,
    tm_delete INTEGER
) STRICT;

CREATE TABLE messages (
    id           INTEGER PRIMARY KEY,
    uuid         BLOB NOT NULL,
    account      INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    event        INTEGER NOT NULL,  -- the first that is known of it
    direction    TEXT NOT NULL,
    status       TEXT NOT NULL,
    text         TEXT NOT NULL,
    content      TEXT NOT NULL,     -- JSON: source, destination, medias, metadata
    tm_create    INTEGER NOT NULL,
    tm_update    INTEGER NOT NULL,
    tm_delete    INTEGER,
    edited       INTEGER NOT NULL   -- whether what it says comes from an edit
) STRICT;

-- Messages that were edited or taken back before they arrived: the only ones that a new message has to be compared
-- with beyond the newest.
CREATE TABLE early_messages (
    uuid BLOB PRIMARY KEY,
    row  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Events downstream, rendered once: every attempt sends these bytes.
CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY,
    uuid         BLOB NOT NULL,
    type         TEXT NOT NULL,
    event        INTEGER NOT NULL,
    message      INTEGER,
    conversation INTEGER NOT NULL,  -- negative: none, the account's row
    created_at   INTEGER NOT NULL,
    body         BLOB NOT NULL      -- empty: erased
) STRICT;
CREATE INDEX outbox_of_event ON outbox (event);

CREATE TABLE subscribers (
    id              INTEGER PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    configured      INTEGER NOT NULL,
    ordered         INTEGER NOT NULL,
    disabled_at     INTEGER,
    disabled_reason TEXT
) STRICT;

-- A lane is what a worker leases. due_at is the one clock of it: NULL idle, else when it may be claimed (again),
-- which for a leased lane is the end of the lease. single lanes carry one delivery: a replay, or order = "none".
CREATE TABLE lanes (
    id           INTEGER PRIMARY KEY,
    subscriber   INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    single       INTEGER NOT NULL,
    last_seq     INTEGER NOT NULL,
    due_at       INTEGER,
    leased       INTEGER NOT NULL,
    token        INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX lanes_of_conversation ON lanes (subscriber, conversation) WHERE single = 0;
CREATE INDEX lanes_due ON lanes (subscriber, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE deliveries (
    id          INTEGER PRIMARY KEY,
    event       INTEGER NOT NULL,   -- outbox
    subscriber  INTEGER NOT NULL,
    lane        INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    state       INTEGER NOT NULL,   -- 0 pending, 2 delivered, 3 dead, 4 cancelled; leased is a property of the lane
    replay      INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    round_start INTEGER NOT NULL,   -- attempts made before the latest replay
    due_at      INTEGER NOT NULL,
    first_at    INTEGER,            -- first attempt of this round
    last_at     INTEGER,
    last_ms     INTEGER,
    last_status INTEGER,
    last_reason TEXT
) STRICT;
CREATE INDEX deliveries_of_event ON deliveries (event);
CREATE INDEX deliveries_of_lane ON deliveries (lane, seq) WHERE state = 0;
CREATE INDEX deliveries_owed ON deliveries (subscriber, id) WHERE state = 0;
CREATE INDEX deliveries_dead ON deliveries (id) WHERE state = 3;

-- Attempts that did not succeed; the latest attempt stands in the delivery itself.
CREATE TABLE attempts (
    id       INTEGER PRIMARY KEY,
    delivery INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    ms       INTEGER,
    status   INTEGER,
    reason   TEXT NOT NULL
) STRICT;
CREATE INDEX attempts_of_delivery ON attempts (delivery);

-- Written by readiness probes: proof that a commit is possible.
CREATE TABLE probes (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;
