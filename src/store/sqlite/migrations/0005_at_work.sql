-- What is being attempted was marked in the delivery's row, and what is done taken out of owed, row by row. Both fall
-- anywhere. Of a lane that works off what stands in owed, one row here says both: a few hundred of them, in a page or two.
CREATE TABLE at_work (
    lane       INTEGER PRIMARY KEY,
    subscriber INTEGER NOT NULL,
    seq        INTEGER NOT NULL,  -- what owed has of the lane below this is done
    delivery   INTEGER NOT NULL   -- what is being attempted
) STRICT;
