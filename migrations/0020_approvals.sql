-- Questions to people. A row is the whole question: nothing of it changes but how it ends.
CREATE TABLE approval (
    id             TEXT PRIMARY KEY,
    kind           TEXT NOT NULL,     -- call: a tool call, run by its caller afterwards; act: done once enough agreed
    operation      TEXT NOT NULL,     -- canonical JSON (RFC 8785): what the hash is over
    operation_hash TEXT NOT NULL,     -- hex SHA-256
    shown          TEXT NOT NULL,     -- JSON: the operation as people see it, secrets taken out
    preview        TEXT,              -- JSON, secrets taken out; NULL where there is nothing to preview
    trace          TEXT NOT NULL,     -- JSON: every check of policy
    why            TEXT NOT NULL,
    quorum         INTEGER NOT NULL,
    strength       TEXT NOT NULL,     -- identity, signature: the least that counts
    engagement     TEXT NOT NULL,
    tool           TEXT NOT NULL,
    target         TEXT,
    segment        TEXT,
    risk           TEXT NOT NULL,
    jti            TEXT,              -- who asks: the token and the peer; NULL for acts
    subject        TEXT NOT NULL,
    owner          TEXT NOT NULL,
    peer           TEXT NOT NULL,
    login          TEXT,              -- the peer's, where it has one
    correlation_id TEXT NOT NULL,
    gateway        TEXT NOT NULL,     -- the origin that signatures name
    nonce          TEXT NOT NULL,
    created_at     TEXT NOT NULL,
    expires_at     TEXT NOT NULL,
    state          TEXT NOT NULL,     -- pending, denied, expired, used
    ended_at       TEXT
) STRICT;
CREATE INDEX approval_pending ON approval (expires_at) WHERE state = 'pending';
CREATE INDEX approval_created ON approval (created_at);

-- What ended stays ended.
CREATE TRIGGER approval_ended BEFORE UPDATE ON approval
WHEN OLD.state <> 'pending'
BEGIN SELECT RAISE(ABORT, 'the approval has ended'); END;

-- What people said, one row a person and question.
CREATE TABLE approval_vote (
    approval_id TEXT NOT NULL REFERENCES approval (id),
    login       TEXT NOT NULL,        -- folded to lower case
    vote        TEXT NOT NULL,        -- approve, deny
    strength    TEXT NOT NULL,
    place       TEXT NOT NULL,        -- JSON: where the vote came from, so that the right can be looked for again
    comment     TEXT NOT NULL,
    key_id      TEXT,                 -- the key that signed
    signature   TEXT,                 -- SSHSIG, armored
    signed      TEXT,                 -- the bytes that were signed
    voted_at    TEXT NOT NULL,
    PRIMARY KEY (approval_id, login)
) STRICT;

-- The public keys whose signatures count as a person's. Room for passkeys: kind webauthn.
CREATE TABLE approver_key (
    key_id     TEXT PRIMARY KEY,      -- of SSH keys: SHA256:… as ssh-keygen -l prints it
    login      TEXT NOT NULL,
    kind       TEXT NOT NULL,         -- ssh
    public_key TEXT NOT NULL,
    label      TEXT NOT NULL,
    added_at   TEXT NOT NULL,
    added_by   TEXT NOT NULL,
    removed_at TEXT,
    removed_by TEXT
) STRICT;

-- Passes for emergencies: each opens one operation once, and leaves a review that somebody else has to close.
CREATE TABLE break_glass (
    id              TEXT PRIMARY KEY,
    credential_hash TEXT NOT NULL UNIQUE,   -- hex SHA-256; the credential itself is nowhere
    reason          TEXT NOT NULL,
    subject         TEXT,             -- the only agent it is for; NULL: any
    made_by         TEXT NOT NULL,
    made_at         TEXT NOT NULL,
    expires_at      TEXT NOT NULL,
    used_at         TEXT,
    used_by         TEXT,             -- JSON: whose call it let through, and on what
    operation_hash  TEXT,
    correlation_id  TEXT,
    shown           TEXT,             -- JSON: the operation it let through, secrets taken out
    closed_at       TEXT,             -- the review's end
    closed_by       TEXT,
    comment         TEXT
) STRICT;

-- A pass is used once, its review is closed once, after that, and neither is forgotten.
CREATE TRIGGER break_glass_used BEFORE UPDATE OF used_at, used_by, operation_hash, correlation_id, shown ON break_glass
WHEN OLD.used_at IS NOT NULL OR OLD.closed_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'the pass is over'); END;
CREATE TRIGGER break_glass_closed BEFORE UPDATE ON break_glass
WHEN OLD.closed_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'the review is closed'); END;
CREATE TRIGGER break_glass_made BEFORE UPDATE OF id, credential_hash, reason, subject, made_by, made_at, expires_at ON break_glass
BEGIN SELECT RAISE(ABORT, 'a pass stays as it was made'); END;
CREATE TRIGGER break_glass_kept BEFORE DELETE ON break_glass
BEGIN SELECT RAISE(ABORT, 'passes are kept'); END;
