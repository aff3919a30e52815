//! A list that only grows: the hash of each entry covers its values and the hash of the entry before.

use karat_core::Digest;

/// The hash before the first entry.
pub(crate) const GENESIS: Digest = Digest::from_bytes([0; 32]);

/// One entry of such a list.
pub(crate) trait Link {
    /// Its place, from 1.
    fn seq(&self) -> u64;
    /// Hash of the entry before, as recorded.
    fn previous(&self) -> Digest;
    /// Its own hash, as recorded.
    fn hash(&self) -> Digest;
    /// The hash that belongs to its values.
    fn hash_of(&self) -> Digest;
    /// Whether its values may follow those of the entry before.
    fn follows(&self, _before: Option<&Self>) -> bool {
        true
    }
}

/// The first entry, counted from 1, that is not what was appended.
pub(crate) fn first_break<L: Link>(entries: &[L]) -> Option<usize> {
    let mut before: Option<&L> = None;
    for (at, entry) in entries.iter().enumerate() {
        if entry.seq() != at as u64 + 1
            || entry.previous() != before.map_or(GENESIS, L::hash)
            || entry.hash() != entry.hash_of()
            || !entry.follows(before)
        {
            return Some(at + 1);
        }
        before = Some(entry);
    }
    None
}
