//! The whole site over a store: every page, who may ask, hostile names, hostile addresses, the wire.

mod fixture;
mod hostile;
mod pages;
mod tags;
mod wire;
