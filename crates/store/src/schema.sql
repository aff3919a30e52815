-- Form 1 of karat.db. Digests are `sha256:<hex>`, times are milliseconds since 1970, lists and maps are JSON.

-- Artifacts that some row below names. A row here is only ever inserted after a look at the file.
CREATE TABLE object (
    digest  TEXT PRIMARY KEY,
    n_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Rebuildable: saves hashing files that have not changed. One JSON list per dataset.
CREATE TABLE known_files (
    dataset TEXT PRIMARY KEY,
    files   TEXT NOT NULL
) STRICT;

CREATE TABLE snapshot (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset    TEXT NOT NULL,
    digest     TEXT NOT NULL,
    object     TEXT NOT NULL REFERENCES object (digest),
    created_at INTEGER NOT NULL,
    UNIQUE (dataset, digest)
) STRICT;

CREATE TABLE run (
    -- Order of beginning; nothing is ordered by the wall clock.
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    step         TEXT NOT NULL,
    key          TEXT NOT NULL,
    subject      TEXT NOT NULL,
    spec         TEXT NOT NULL,
    inputs       TEXT NOT NULL,
    seed         TEXT,
    device       TEXT NOT NULL,
    tool         TEXT NOT NULL,
    code         TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('running', 'complete', 'failed', 'canceled')),
    -- Also the fencing token: whoever commits must hold the newest attempt.
    attempt      INTEGER NOT NULL,
    owner        TEXT NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    started_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    metrics      TEXT NOT NULL DEFAULT 'null',
    seconds      REAL NOT NULL DEFAULT 0,
    error        TEXT
) STRICT;
CREATE INDEX run_by_key ON run (step, key);
CREATE UNIQUE INDEX run_unfinished ON run (step, key) WHERE state <> 'complete';

CREATE TABLE run_output (
    run    TEXT NOT NULL REFERENCES run (id),
    name   TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES object (digest),
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_output_by_digest ON run_output (digest);

CREATE TABLE checkpoint (
    run        TEXT NOT NULL REFERENCES run (id),
    update_no  INTEGER NOT NULL,
    manifest   TEXT NOT NULL REFERENCES object (digest),
    eval_loss  REAL,
    attempt    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (run, update_no)
) STRICT, WITHOUT ROWID;
CREATE INDEX checkpoint_by_manifest ON checkpoint (manifest);

CREATE TABLE checkpoint_file (
    run       TEXT NOT NULL,
    update_no INTEGER NOT NULL,
    name      TEXT NOT NULL,
    digest    TEXT NOT NULL REFERENCES object (digest),
    PRIMARY KEY (run, update_no, name),
    FOREIGN KEY (run, update_no) REFERENCES checkpoint (run, update_no) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX checkpoint_file_by_digest ON checkpoint_file (digest);

CREATE TABLE version (
    model             TEXT NOT NULL,
    version           INTEGER NOT NULL CHECK (0 < version),
    manifest          TEXT NOT NULL REFERENCES object (digest),
    run               TEXT NOT NULL REFERENCES run (id),
    created_at        INTEGER NOT NULL,
    -- The newest promotion of all when this was registered: a clock that cannot be set back.
    after_promotion   INTEGER NOT NULL,
    PRIMARY KEY (model, version),
    UNIQUE (model, manifest)
) STRICT, WITHOUT ROWID;
CREATE INDEX version_by_manifest ON version (manifest);

CREATE TABLE version_output (
    model   TEXT NOT NULL,
    version INTEGER NOT NULL,
    name    TEXT NOT NULL,
    digest  TEXT NOT NULL REFERENCES object (digest),
    PRIMARY KEY (model, version, name),
    FOREIGN KEY (model, version) REFERENCES version (model, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX version_output_by_digest ON version_output (digest);

CREATE TABLE verdict (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    digest     TEXT NOT NULL UNIQUE REFERENCES object (digest),
    candidate  TEXT NOT NULL,
    gate       TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX verdict_by_candidate ON verdict (candidate);

CREATE TABLE alias (
    model    TEXT NOT NULL,
    alias    TEXT NOT NULL,
    version  INTEGER NOT NULL,
    seq      INTEGER NOT NULL CHECK (0 < seq),
    actor    TEXT NOT NULL,
    moved_at INTEGER NOT NULL,
    PRIMARY KEY (model, alias),
    FOREIGN KEY (model, version) REFERENCES version (model, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE promotion (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    model        TEXT NOT NULL,
    alias        TEXT NOT NULL,
    seq          INTEGER NOT NULL,
    from_version INTEGER,
    to_version   INTEGER NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('verdict', 'forced', 'rollback')),
    verdict      TEXT REFERENCES verdict (digest),
    reason       TEXT,
    actor        TEXT NOT NULL,
    at           INTEGER NOT NULL,
    -- Hash chain of one alias: `hash` covers every value of this row and the hash of the row before.
    previous     TEXT NOT NULL,
    hash         TEXT NOT NULL,
    UNIQUE (model, alias, seq),
    FOREIGN KEY (model, from_version) REFERENCES version (model, version),
    FOREIGN KEY (model, to_version) REFERENCES version (model, version),
    CHECK ((kind = 'verdict') = (verdict IS NOT NULL)),
    CHECK ((kind = 'verdict') = (reason IS NULL))
) STRICT;

CREATE TABLE report (
    snapshot   TEXT NOT NULL,
    subject    TEXT NOT NULL,
    file       TEXT NOT NULL,
    digest     TEXT NOT NULL REFERENCES object (digest),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (snapshot, subject, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX report_by_digest ON report (digest);

-- Every digest that some row needs. `gc` keeps these.
CREATE VIEW named (digest) AS
    SELECT object FROM snapshot
    UNION ALL SELECT digest FROM run_output
    UNION ALL SELECT manifest FROM checkpoint
    UNION ALL SELECT digest FROM checkpoint_file
    UNION ALL SELECT manifest FROM version
    UNION ALL SELECT digest FROM version_output
    UNION ALL SELECT digest FROM verdict
    UNION ALL SELECT digest FROM report;

-- What was decided stays decided.
CREATE TRIGGER promotion_is_final BEFORE UPDATE ON promotion
BEGIN SELECT RAISE (ABORT, 'the promotion history is append-only'); END;
CREATE TRIGGER promotion_is_kept BEFORE DELETE ON promotion
BEGIN SELECT RAISE (ABORT, 'the promotion history is append-only'); END;
-- Also stops `INSERT OR REPLACE`, which deletes without firing the trigger above.
CREATE TRIGGER promotion_is_appended BEFORE INSERT ON promotion
WHEN NEW.seq <> (
    SELECT COALESCE(MAX(seq), 0) + 1 FROM promotion WHERE model = NEW.model AND alias = NEW.alias
)
BEGIN SELECT RAISE (ABORT, 'the promotion history is append-only'); END;
CREATE TRIGGER alias_moves_one_by_one BEFORE UPDATE ON alias
WHEN NEW.seq <> OLD.seq + 1 OR NEW.model <> OLD.model OR NEW.alias <> OLD.alias
BEGIN SELECT RAISE (ABORT, 'an alias moves by compare-and-swap'); END;
CREATE TRIGGER version_is_final BEFORE UPDATE ON version
BEGIN SELECT RAISE (ABORT, 'a version never changes'); END;
CREATE TRIGGER version_is_kept BEFORE DELETE ON version
BEGIN SELECT RAISE (ABORT, 'a version number is never reused'); END;
CREATE TRIGGER verdict_is_final BEFORE UPDATE ON verdict
BEGIN SELECT RAISE (ABORT, 'a verdict never changes'); END;
CREATE TRIGGER verdict_is_kept BEFORE DELETE ON verdict
BEGIN SELECT RAISE (ABORT, 'a verdict stays on record'); END;
