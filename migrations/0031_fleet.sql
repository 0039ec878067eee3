-- What is known of each target: the facts of the last reading that gave some, and how the last attempt ended. Findings
-- carry the moment they were first seen.
CREATE TABLE fact (
    engagement TEXT NOT NULL,
    target     TEXT NOT NULL,
    tried_at   TEXT NOT NULL,
    failure    TEXT,           -- JSON: code and since when; NULL where the last attempt gave facts
    taken_at   TEXT,           -- NULL where no attempt ever gave facts
    facts      TEXT,           -- JSON; with taken_at or not at all
    findings   TEXT NOT NULL,  -- JSON: what is wrong by these facts, each with since when
    PRIMARY KEY (engagement, target),
    CHECK ((taken_at IS NULL) = (facts IS NULL))
) STRICT, WITHOUT ROWID;

-- Kept readings of many targets.
CREATE TABLE snapshot (
    id         TEXT PRIMARY KEY,  -- ordered by time
    engagement TEXT NOT NULL,
    label      TEXT,
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL,     -- the subject of the token
    sections   TEXT NOT NULL,     -- JSON: those that were asked for
    asked      INTEGER NOT NULL,  -- how many targets
    failed     INTEGER NOT NULL   -- of these, how many gave nothing
) STRICT;
CREATE INDEX snapshot_of ON snapshot (engagement, id);

-- Each section of each target: its text, or why there is none. Texts are kept once, whoever has the same.
CREATE TABLE snapshot_section (
    snapshot TEXT NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
    target   TEXT NOT NULL,
    section  TEXT NOT NULL,
    digest   BLOB,             -- SHA-256 of the text
    missing  TEXT,             -- one word
    PRIMARY KEY (snapshot, target, section),
    CHECK ((digest IS NULL) <> (missing IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshot_section_text ON snapshot_section (digest) WHERE digest IS NOT NULL;

CREATE TABLE section_text (
    digest BLOB PRIMARY KEY,
    text   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
