//! A token or password: it can be sent, and nothing else.

use std::fmt;

/// A token or password. It has no form that can be printed, compared or written down.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes it in.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// For the header it is sent in.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "[secret] [secret] Some([secret])"
        );
    }
}
