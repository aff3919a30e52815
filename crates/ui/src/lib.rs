//! Pages over the store for a browser on the same machine. Reads, never writes.
//!
//! A page is two functions: one reads values from the store, one turns them into markup. No script, nothing loaded from
//! elsewhere, no login; what is shown came from data files and changes under review and is treated as hostile.
//!
//! Reading order: `site` (what is asked for and who may ask), `pages`, `frame` (what all pages share), `html` (why
//! text stays text), `address` (why no address becomes a path), `http` and `server` (limits).

mod address;
mod curves;
mod facts;
mod frame;
mod graph;
mod html;
mod http;
mod pages;
mod parts;
mod server;
mod site;

pub use http::{Request, Response};
pub use server::{Server, UiError};
pub use site::Site;
