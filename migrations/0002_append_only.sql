-- The log grows at its end and nowhere else. REPLACE removes the row in its way without firing any DELETE trigger, so
-- whatever is in the way is looked for here; a gap is refused too.
CREATE TRIGGER audit_leaf_at_the_end BEFORE INSERT ON audit_leaf
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit_leaf)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only: a leaf is added at its end'); END;

CREATE TRIGGER audit_leaf_closes_once BEFORE INSERT ON audit_leaf
WHEN NEW.closes IS NOT NULL AND EXISTS (SELECT 1 FROM audit_leaf WHERE closes = NEW.closes)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only: an intent is closed once'); END;

-- A salt can be forgotten, never set or changed.
CREATE TRIGGER audit_leaf_salt_forgotten BEFORE UPDATE OF salt ON audit_leaf
WHEN NEW.salt IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only: a salt can only be forgotten'); END;
