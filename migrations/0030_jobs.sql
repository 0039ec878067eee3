-- Work on a target that outlives the call that started it.
CREATE TABLE job (
    id             TEXT PRIMARY KEY,  -- 32 hex digits; the unit on the target is tailops-<id>.service
    tool           TEXT NOT NULL,
    target         TEXT NOT NULL,
    engagement     TEXT NOT NULL,
    subject        TEXT NOT NULL,     -- of the token that started it: with the engagement, the owner
    owner          TEXT NOT NULL,
    jti            TEXT NOT NULL,
    correlation_id TEXT NOT NULL,     -- of the call that started it
    operation      TEXT NOT NULL,     -- JSON: the arguments as they were judged, secrets taken out
    script_s       INTEGER NOT NULL,  -- how long the script that starts it may run on the target
    state          TEXT NOT NULL,     -- starting, running; succeeded, failed, cancelled, lost, not_started
    waits_for      TEXT NOT NULL,     -- unit: its end; boot: that the target runs another boot; down: that it is off
    boot_id        TEXT,              -- the boot that it was started in, as soon as it is known
    new_boot_id    TEXT,
    due_at         TEXT,              -- when a planned shutdown is due
    down_s         INTEGER,
    result         TEXT,              -- systemd's word for how it ended, or ours
    exit_status    INTEGER,
    cancelled_by   TEXT,              -- whose call asked for its end
    started_at     TEXT NOT NULL,
    seen_at        TEXT,              -- when the target was last seen to work on it
    ended_at       TEXT,
    recorded       INTEGER NOT NULL DEFAULT 0,  -- whether its end is in the audit log
    cleaned        INTEGER NOT NULL DEFAULT 0   -- whether its unit was taken away, or that was tried
) STRICT;
CREATE INDEX job_unfinished ON job (started_at) WHERE ended_at IS NULL OR recorded = 0 OR cleaned = 0;
CREATE INDEX job_owner ON job (engagement, subject, started_at);

-- What ended stays as it ended; who it belongs to never changes.
CREATE TRIGGER job_ended BEFORE UPDATE OF state, result, exit_status, new_boot_id, down_s, cancelled_by, ended_at ON job
WHEN OLD.ended_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'the job has ended'); END;
CREATE TRIGGER job_opened BEFORE UPDATE OF id, tool, target, engagement, subject, owner, jti, correlation_id, operation, started_at ON job
BEGIN SELECT RAISE(ABORT, 'a job stays as it was opened'); END;
