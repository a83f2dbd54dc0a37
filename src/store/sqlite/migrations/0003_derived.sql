-- What is received and what is owed is appended; everything that falls anywhere (look-up ids, keys of repeats, lanes and
-- what waits in them) follows from those rows and is written later, some thousand at a time, in order. This makes
-- the tables that it is written to; 0004 removes what they replace. Between the two the program fills id_slices.

-- Of an event downstream: its first delivery, and how many there were; they follow each other.
ALTER TABLE outbox ADD COLUMN first INTEGER;
ALTER TABLE outbox ADD COLUMN deliveries INTEGER NOT NULL DEFAULT 0;
UPDATE outbox SET (first, deliveries) =
    (SELECT min(d.id), coalesce(max(d.id) - min(d.id) + 1, 0) FROM deliveries d WHERE d.event = outbox.id);

-- An event downstream has the id of the event that it was committed with, times eight, and its place there; the index
-- is for those that have not, because they were added to an older event.
CREATE INDEX outbox_late ON outbox (event) WHERE id >> 3 <> event;
-- A message has the id of the event that created it; the index is for events that changed it.
CREATE INDEX events_later ON events (message) WHERE message <> id;

-- Which events an id that falls anywhere has to do with: the id of a message or an event downstream, a provider's key.
-- A bucket is 8192 events in a row, a slice of it those entries whose hash begins alike: its row is bucket * 128 + slice.
-- An entry is eight bytes, big end first: 48 bits of hash, then the event's place in the bucket. Entries are in order.
CREATE TABLE id_slices (
    id      INTEGER PRIMARY KEY,
    entries BLOB NOT NULL
) STRICT;

-- The same for events that were there before: what was added to them later.
CREATE TABLE id_late (
    hash  INTEGER NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (hash, event)
) STRICT, WITHOUT ROWID;

-- Deliveries that are owed, in the order of their lanes.
CREATE TABLE owed (
    subscriber INTEGER NOT NULL,
    lane       INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    delivery   INTEGER NOT NULL,
    PRIMARY KEY (subscriber, lane, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO owed (subscriber, lane, seq, delivery) SELECT subscriber, lane, seq, id FROM deliveries WHERE state = 0;

-- Being attempted is a state of a delivery from now on: 1.
UPDATE deliveries SET state = 1 WHERE id IN (
    SELECT (SELECT o.delivery FROM owed o WHERE o.subscriber = l.subscriber AND o.lane = l.id ORDER BY o.seq LIMIT 1)
    FROM lanes l WHERE l.leased = 1);
-- A lane that is open is at work: when it is due, its deliveries say.
ALTER TABLE lanes RENAME COLUMN leased TO open;
ALTER TABLE lanes DROP COLUMN token;
UPDATE lanes SET due_at = NULL WHERE open = 1;
CREATE INDEX lanes_open ON lanes (id) WHERE open = 1;
