//! Why something could not be told to the server. Each of these is a warning.

/// Why something could not be told to the server.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message beside each variant says what its fields are")]
pub enum TrackError {
    #[error("{server} does not answer ({n_tries} tries): {reason}")]
    Down { server: String, n_tries: u32, reason: String },

    #[error("{server} refused `{call}` with status {status}: {message}")]
    Refused { server: String, call: String, status: u16, message: String },

    #[error(
        "{server} answers `{call}` with a redirect, which is not followed: give the address it leads to"
    )]
    Redirected { server: String, call: String },

    #[error("{server} answered `{call}` with something that is no MLflow answer: {reason}")]
    Malformed { server: String, call: String, reason: String },

    #[error("cannot read `{name}` to send it")]
    Unreadable { name: String, source: std::io::Error },
}

/// Text of somebody else, for a terminal: one line, no control characters, cut off.
pub(crate) fn plain(text: &str) -> String {
    const SHOWN: usize = 200;
    let line: String =
        text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(SHOWN).collect();
    line.trim().to_owned()
}
