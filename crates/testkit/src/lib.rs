//! Sandbox, fakes and fixtures for tests.
