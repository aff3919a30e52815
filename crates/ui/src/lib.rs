//! Pages over the store for a browser on the same machine. Reads, never writes.
