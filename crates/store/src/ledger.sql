-- Form 2 of karat.db: what was shown of each evaluation set. One chain over the whole store.
CREATE TABLE ledger (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Digest of the judged rows and their labels.
    eval_set    TEXT NOT NULL,
    predictions TEXT NOT NULL,
    candidate   TEXT NOT NULL,
    -- These five stand together, or not at all: then two models were compared without a gate.
    gate        TEXT,
    policy      TEXT,
    verdict     TEXT UNIQUE REFERENCES verdict (digest),
    outcome     TEXT,
    n_allowed   INTEGER,
    reveal      TEXT NOT NULL,
    actor       TEXT NOT NULL,
    at          INTEGER NOT NULL,
    -- `hash` covers every value of this row and the hash of the row before.
    previous    TEXT NOT NULL,
    hash        TEXT NOT NULL,
    CHECK ((gate IS NULL) = (verdict IS NULL)),
    CHECK ((policy IS NULL) = (verdict IS NULL)),
    CHECK ((outcome IS NULL) = (verdict IS NULL)),
    CHECK (n_allowed IS NULL OR verdict IS NOT NULL)
) STRICT;

CREATE TRIGGER ledger_is_final BEFORE UPDATE ON ledger
BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_is_kept BEFORE DELETE ON ledger
BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
-- Also stops `INSERT OR REPLACE`, which deletes without firing the trigger above.
CREATE TRIGGER ledger_is_appended BEFORE INSERT ON ledger
WHEN NEW.seq <> (SELECT COALESCE(MAX(seq), 0) + 1 FROM ledger)
BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
