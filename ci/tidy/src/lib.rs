//! The rules of this workspace, as tests. `cargo test -p karat-tidy` reads the tree and builds nothing of it.
//!
//! A [`rule::Rule`] says what must hold and why, and finds the lines where it does not. Each rule has two tests: that
//! the tree keeps it, and that it finds a made-up violation, so that we know it can fail.
//!
//! Reading order: [`rule`], [`tree`], [`code`], then the rules: [`layers`], [`source`], [`words`], [`errors`],
//! [`pages`], [`operations`].

#[cfg(test)]
mod code;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod rule;
#[cfg(test)]
mod source;
#[cfg(test)]
mod tree;
#[cfg(test)]
mod words;
