-- What the host of a target says of itself before the login: as it was seen when the target was enrolled or, where nobody
-- looked then, on the first connection since; and replaced by what it says now once a change was told of.
CREATE TABLE greeting (
    target         TEXT PRIMARY KEY,
    enrolment      TEXT NOT NULL,  -- hex SHA-256 of tenant, place and host keys; nothing is compared with that of another
    identification TEXT NOT NULL,  -- the string that SSH begins with, escaped; at most 255 bytes before that
    banner_sha256  TEXT,           -- hex, of all of it; of nothing where there was none; NULL until somebody logged in
    banner_line    TEXT,           -- its first line, escaped and cut
    seen_at        TEXT NOT NULL,
    CHECK ((banner_sha256 IS NULL) = (banner_line IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TRIGGER greeting_of_removed AFTER DELETE ON target
BEGIN DELETE FROM greeting WHERE target = OLD.id; END;
