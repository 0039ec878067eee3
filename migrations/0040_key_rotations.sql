-- Login keys that are being replaced, or were. The row is all that a gateway which was interrupted knows of where it
-- stood; it holds public keys only. A file has one rotation that has not ended.
CREATE TABLE key_rotation (
    id          TEXT PRIMARY KEY,
    file        TEXT NOT NULL,     -- the login key, an absolute path
    stage       TEXT NOT NULL,     -- adding | undoing | removing | undone | done
    old_key     TEXT NOT NULL,     -- lines of OpenSSH without a comment
    new_key     TEXT NOT NULL,
    old_print   TEXT NOT NULL,     -- their fingerprints
    new_print   TEXT NOT NULL,
    targets     TEXT NOT NULL,     -- JSON: each with how far it is, and what went wrong there last
    problem     TEXT,              -- JSON: code and message of what ended it early or holds it up
    started_at  TEXT NOT NULL,
    started_by  TEXT NOT NULL,
    swapped_at  TEXT,              -- when the file became the new key
    ended_at    TEXT
) STRICT;
CREATE UNIQUE INDEX key_rotation_open ON key_rotation (file) WHERE ended_at IS NULL;
CREATE INDEX key_rotation_made ON key_rotation (new_print) WHERE swapped_at IS NOT NULL;
