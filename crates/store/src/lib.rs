//! Everything durable: artifacts, metadata, the commit protocol.
