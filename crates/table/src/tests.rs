//! Tests through the port.
