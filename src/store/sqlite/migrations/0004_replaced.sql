-- What id_slices, owed, outbox.first and the ids of messages and events downstream replace.
DROP TABLE ids;
DROP TABLE tail;
DROP INDEX outbox_of_event;
DROP INDEX events_of_message;
DROP INDEX deliveries_of_event;
DROP INDEX deliveries_of_lane;
DROP INDEX deliveries_owed;

-- From which rows on what follows from them is not written yet. delivery is also above every id that was ever given.
CREATE TABLE tail (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    event    INTEGER NOT NULL,  -- id_slices, dedupe
    delivery INTEGER NOT NULL   -- owed, lanes
) STRICT;
INSERT INTO tail (id, event, delivery) SELECT 1,
    (SELECT max(1 + coalesce((SELECT max(id) FROM events), 0), 1 + coalesce((SELECT max(id) >> 3 FROM outbox), 0))),
    (SELECT 1 + coalesce(max(id), 0) FROM deliveries);
