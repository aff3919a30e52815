//! How numbers run on a device: train, resume, score.
