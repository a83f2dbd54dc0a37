-- The same records as the embedded engine's, shaped for many writers: what is owed stands in small tables that are
-- vacuumed quickly, what is finished moves to tables that are dropped a day at a time, and everything else appends.
-- Strangers' words are bytea: text cannot hold U+0000, a webhook can.

-- Every row's id, whatever the table: rows of one batch get theirs with one statement.
CREATE SEQUENCE row_ids AS bigint;

CREATE TABLE accounts (
    id   bigint PRIMARY KEY,
    uuid uuid NOT NULL UNIQUE
);

-- Raw webhooks, kept for replay; a partition is a day (days since 1970), dropped after retention.raw.
CREATE TABLE webhooks (
    id          bigint NOT NULL,    -- the event that it was kept for
    day         integer NOT NULL,   -- of received_at
    account     bigint NOT NULL,
    received_at bigint NOT NULL,
    headers     text NOT NULL,
    body        bytea NOT NULL,
    PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);
CREATE TABLE webhooks_rest PARTITION OF webhooks DEFAULT;

-- Every event of every authentic webhook, with its one end state.
CREATE TABLE events (
    id           bigint PRIMARY KEY,
    webhook      bigint,            -- NULL: a receipt without body
    beside       bigint,            -- of a repeat: the webhook it came in, when that is kept for another event
    place        bigint NOT NULL,   -- in the webhook, from 0
    account      bigint NOT NULL,
    received_at  bigint NOT NULL,
    request_id   text NOT NULL,
    kind         bytea NOT NULL,
    event_time   bigint,
    provider_key bytea,
    state        smallint NOT NULL, -- 0 stored, 1 duplicate, 2 quarantined, 3 ignored
    conflict     boolean NOT NULL,  -- a duplicate whose time differs from the first one's
    reason       text,
    detail       bytea,
    message      bigint             -- the message it became or changed
);
CREATE INDEX events_of_message ON events (message) WHERE message IS NOT NULL;

-- Look-ups by an id that falls anywhere, which are rare: in buckets by age, so that writes touch the pages of the
-- newest bucket only, however long the history is.
CREATE TABLE ids (
    bucket bigint NOT NULL,
    id     uuid NOT NULL,           -- or the first half of a SHA-256
    kind   smallint NOT NULL,       -- 0 message, 1 outbox (webhook-id), 2 event (provider key)
    row    bigint NOT NULL,
    PRIMARY KEY (bucket, id, kind, row)
);

-- What a repeat carries again. Ordered by event time, so that inserts append; key = first half of SHA-256.
CREATE TABLE dedupe (
    account    bigint NOT NULL,
    event_time bigint NOT NULL,
    key        uuid NOT NULL,
    event      bigint NOT NULL,
    PRIMARY KEY (account, event_time, key)
);

-- One row for each transaction that must not happen twice: after a cut connection nobody knows whether its commit
-- took place, except by this.
CREATE TABLE flushes (
    id uuid PRIMARY KEY,
    at bigint NOT NULL
);

CREATE TABLE conversations (
    id        bigint PRIMARY KEY,
    uuid      uuid NOT NULL UNIQUE,
    account   bigint NOT NULL,
    customer  uuid NOT NULL,
    channel   text NOT NULL,
    dialog_id bytea NOT NULL,
    own       text NOT NULL,
    peer      text NOT NULL,
    named_at  bigint NOT NULL,
    tm_create bigint NOT NULL,
    tm_update bigint,
    tm_delete bigint
);

CREATE TABLE messages (
    id           bigint PRIMARY KEY,
    uuid         uuid NOT NULL,
    account      bigint NOT NULL,
    conversation bigint NOT NULL,
    event        bigint NOT NULL,   -- the first that is known of it
    direction    text NOT NULL,
    status       text NOT NULL,
    text         bytea NOT NULL,
    content      text NOT NULL,     -- JSON: source, destination, medias, metadata
    tm_create    bigint NOT NULL,
    tm_update    bigint NOT NULL,
    tm_delete    bigint,
    edited       boolean NOT NULL   -- whether what it says comes from an edit
);

-- Messages that were edited or taken back before they arrived: the only ones that a new message has to be compared
-- with beyond the newest.
CREATE TABLE early_messages (
    uuid uuid PRIMARY KEY,
    row  bigint NOT NULL
);

-- Events downstream, rendered once: every attempt sends these bytes. A partition is a day of created_at.
CREATE TABLE outbox (
    id           bigint NOT NULL,
    day          integer NOT NULL,
    uuid         uuid NOT NULL,
    type         text NOT NULL,
    event        bigint NOT NULL,
    message      bigint,
    conversation bigint NOT NULL,   -- negative: none, the account's row
    created_at   bigint NOT NULL,
    body         bytea NOT NULL,    -- empty: erased
    PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);
CREATE INDEX outbox_of_event ON outbox (event);
CREATE TABLE outbox_rest PARTITION OF outbox DEFAULT;

CREATE TABLE subscribers (
    id              bigint PRIMARY KEY,
    name            text NOT NULL UNIQUE,
    configured      boolean NOT NULL,
    ordered         boolean NOT NULL,
    disabled_at     bigint,
    disabled_reason text
);

-- A lane is what a worker leases. due_at is the one clock of it, the database's: NULL idle, else when it may be
-- claimed (again), which for a leased lane is the end of the lease. single lanes carry one delivery: a replay, or
-- order = "none". No pending delivery of the lane has a sequence below head: looking for the next one does not
-- wade through those that are finished, even while a long transaction keeps them from being vacuumed.
CREATE TABLE lanes (
    id           bigint PRIMARY KEY,
    subscriber   bigint NOT NULL,
    conversation bigint NOT NULL,
    single       boolean NOT NULL,
    last_seq     bigint NOT NULL,
    head         bigint NOT NULL,
    due_at       bigint,
    leased       boolean NOT NULL,
    token        bigint NOT NULL,
    holder       uuid               -- the claim that took the lease
);
CREATE UNIQUE INDEX lanes_of_conversation ON lanes (conversation, subscriber) WHERE NOT single;
CREATE INDEX lanes_due ON lanes (subscriber, due_at) WHERE due_at IS NOT NULL;

-- What is owed, given up or cancelled.
CREATE TABLE deliveries (
    id          bigint PRIMARY KEY,
    event       bigint NOT NULL,    -- outbox
    event_day   integer NOT NULL,   -- its partition
    subscriber  bigint NOT NULL,
    lane        bigint NOT NULL,
    seq         bigint NOT NULL,
    state       smallint NOT NULL,  -- 0 pending, 3 dead, 4 cancelled; leased is a property of the lane
    replay      boolean NOT NULL,
    attempts    integer NOT NULL,
    round_start integer NOT NULL,   -- attempts made before the latest replay
    due_at      bigint NOT NULL,
    first_at    bigint,             -- first attempt of this round
    last_at     bigint,
    last_ms     bigint,
    last_status integer,
    last_reason text
);
CREATE INDEX deliveries_of_event ON deliveries (event);
CREATE INDEX deliveries_of_lane ON deliveries (lane, seq) WHERE state = 0;
CREATE INDEX deliveries_ended ON deliveries (id) WHERE state <> 0;

-- What was delivered. A partition is a day of the delivery, dropped after retention.finished.
CREATE TABLE finished (
    id          bigint NOT NULL,
    day         integer NOT NULL,
    event       bigint NOT NULL,
    event_day   integer NOT NULL,
    subscriber  bigint NOT NULL,
    lane        bigint NOT NULL,
    seq         bigint NOT NULL,
    replay      boolean NOT NULL,
    attempts    integer NOT NULL,
    due_at      bigint NOT NULL,
    first_at    bigint,
    last_at     bigint,
    last_ms     bigint,
    last_status integer,
    last_reason text,
    PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);
CREATE INDEX finished_of_event ON finished (event);
-- Delivered on another day than it was committed: what keeps a day's outbox from being dropped whole.
CREATE INDEX finished_later ON finished (event_day) WHERE event_day <> day;
CREATE TABLE finished_rest PARTITION OF finished DEFAULT;

-- Attempts that did not succeed; the latest attempt stands in the delivery itself.
CREATE TABLE attempts (
    delivery bigint NOT NULL,
    number   integer NOT NULL,
    at       bigint NOT NULL,
    ms       bigint,
    status   integer,
    reason   text NOT NULL,
    PRIMARY KEY (delivery, number)
);

-- Written by readiness probes: proof that a commit is possible.
CREATE TABLE probes (
    id integer PRIMARY KEY CHECK (id = 1),
    at bigint NOT NULL
);
