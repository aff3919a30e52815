//! Runs and versions as an MLflow server shows them: a window on our records, never the record.
