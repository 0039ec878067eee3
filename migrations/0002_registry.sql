-- Targets that were imported at the command line. Those of the configuration file are not here.
CREATE TABLE target (
    id         TEXT PRIMARY KEY,
    engagement TEXT NOT NULL,
    entry      TEXT NOT NULL,  -- JSON, in the shape of a registry file's entry; holds references to keys, never keys
    changed_at TEXT NOT NULL,
    changed_by TEXT NOT NULL
) STRICT;

INSERT INTO generation (what, value) VALUES ('targets', 1);
CREATE TRIGGER target_added AFTER INSERT ON target
BEGIN UPDATE generation SET value = value + 1 WHERE what = 'targets'; END;
CREATE TRIGGER target_changed AFTER UPDATE ON target
BEGIN UPDATE generation SET value = value + 1 WHERE what = 'targets'; END;
CREATE TRIGGER target_removed AFTER DELETE ON target
BEGIN UPDATE generation SET value = value + 1 WHERE what = 'targets'; END;

-- Reloads that somebody waits for. Who asked reads the outcome here, whoever else asks at the same time.
CREATE TABLE reload (
    nonce    TEXT PRIMARY KEY,
    asked_at TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    outcome  TEXT              -- JSON; NULL until the service answered
) STRICT;
