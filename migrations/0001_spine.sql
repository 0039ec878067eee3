-- Facts about the installation, e.g. the profile the service last ran with.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Which signing keys exist. The keys themselves are files, never rows.
CREATE TABLE token_key (
    key_id     TEXT PRIMARY KEY,
    created_at TEXT NOT NULL,
    retires_at TEXT            -- verifies until then; NULL: the current key
) STRICT;

-- Every token that was minted. A token without a row is refused, however well it is signed.
CREATE TABLE token (
    jti           TEXT PRIMARY KEY,
    subject       TEXT NOT NULL,
    owner         TEXT NOT NULL,
    scopes        TEXT NOT NULL,
    engagement    TEXT NOT NULL,
    targets       TEXT,        -- JSON array; NULL: all of the engagement
    tools         TEXT,        -- JSON array; NULL: all
    binding       TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    issued_at     TEXT NOT NULL,
    expires_at    TEXT NOT NULL,
    first_used_at TEXT,
    revoked_at    TEXT,
    revoked_by    TEXT
) STRICT;

-- Moves on with every change that a running service must notice; polling it costs one row.
CREATE TABLE generation (
    what  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO generation (what, value) VALUES ('tokens', 1);

CREATE TRIGGER token_revoked AFTER UPDATE OF revoked_at, expires_at, scopes ON token
BEGIN UPDATE generation SET value = value + 1 WHERE what = 'tokens'; END;
CREATE TRIGGER token_removed AFTER DELETE ON token
BEGIN UPDATE generation SET value = value + 1 WHERE what = 'tokens'; END;
CREATE TRIGGER token_key_added AFTER INSERT ON token_key
BEGIN UPDATE generation SET value = value + 1 WHERE what = 'tokens'; END;
CREATE TRIGGER token_key_changed AFTER UPDATE ON token_key
BEGIN UPDATE generation SET value = value + 1 WHERE what = 'tokens'; END;
CREATE TRIGGER token_key_removed AFTER DELETE ON token_key
BEGIN UPDATE generation SET value = value + 1 WHERE what = 'tokens'; END;

-- The audit log: dense sequence, canonical JSON, RFC 6962 leaf hash. Append only.
CREATE TABLE audit_leaf (
    seq       INTEGER PRIMARY KEY,
    leaf      TEXT NOT NULL,   -- canonical JSON (RFC 8785): the very bytes that were hashed
    leaf_hash BLOB NOT NULL,   -- SHA-256(0x00 || leaf)
    salt      BLOB,            -- of the commitment to the arguments; deleting it forgets them
    opens     INTEGER NOT NULL DEFAULT 0,  -- 1: an intent
    closes    INTEGER          -- the intent this is the outcome of
) STRICT;
CREATE INDEX audit_leaf_opens ON audit_leaf (seq) WHERE opens = 1;
CREATE UNIQUE INDEX audit_leaf_closes ON audit_leaf (closes) WHERE closes IS NOT NULL;

CREATE TRIGGER audit_leaf_append_only BEFORE UPDATE OF seq, leaf, leaf_hash, opens, closes ON audit_leaf
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_leaf_no_delete BEFORE DELETE ON audit_leaf
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

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
