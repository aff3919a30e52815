//! Where the server is, and who we are to it.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;

use crate::Secret;

/// Longest address.
const LENGTH_MAX: usize = 2_000;

/// Address of an MLflow server. What is shown of it has no user and no password.
#[derive(Clone, Debug)]
pub struct Address {
    /// `http://host:port/path`, without a final slash.
    base: String,
    /// The value of the header `Authorization`.
    authorization: Option<Secret>,
}

/// Text that is no address of a server.
#[derive(Debug, thiserror::Error)]
#[error("`{shown}` is not the address of an MLflow server: {reason}")]
pub struct AddressInvalid {
    /// What was given, without user and password.
    pub shown: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Address {
    /// `http://host:port/path`, without a final slash.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) const fn authorization(&self) -> Option<&Secret> {
        self.authorization.as_ref()
    }

    /// Whether it says nothing of who we are.
    #[must_use]
    pub const fn is_anonymous(&self) -> bool {
        self.authorization.is_none()
    }

    /// With a token, instead of whatever the address held.
    #[must_use]
    pub fn with_token(self, token: &Secret) -> Self {
        let authorization = Some(Secret::new(format!("Bearer {}", token.expose())));
        Self { authorization, ..self }
    }

    /// With a name and a password, instead of whatever the address held.
    #[must_use]
    pub fn with_password(self, user: &str, password: &Secret) -> Self {
        let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
        Self { authorization: Some(Secret::new(format!("Basic {pair}"))), ..self }
    }
}

impl FromStr for Address {
    type Err = AddressInvalid;

    /// Reads `mlflow://host:port` (which is `http://`), `http://…` or `https://…`, with or without `user:password@`.
    fn from_str(text: &str) -> Result<Self, AddressInvalid> {
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some(("mlflow" | "http", rest)) => ("http", rest),
            Some(("https", rest)) => ("https", rest),
            _ => {
                let reason = "it begins with `mlflow://`, `http://` or `https://`";
                return Err(AddressInvalid { shown: without_user(text), reason });
            }
        };
        let refuse = |reason| AddressInvalid { shown: without_user(text), reason };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (user_info, host) = match authority.rsplit_once('@') {
            Some((user_info, host)) => (Some(user_info), host),
            None => (None, authority),
        };
        if LENGTH_MAX < text.len() {
            return Err(refuse("it is longer than 2,000 bytes"));
        }
        if host.is_empty() || host.starts_with(':') {
            return Err(refuse("it names no host"));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:[]/%".contains(c);
        if !host.chars().chain(path.chars()).all(is_plain) {
            return Err(refuse("host and path have letters, digits and `-._~:/%` only"));
        }
        let base = format!("{scheme}://{host}{}", path.trim_end_matches('/'));
        let port = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        if port.is_some_and(|(_, port)| port.parse::<u16>().is_err())
            || base.parse::<ureq::http::Uri>().is_err()
        {
            return Err(refuse("host and port cannot be read"));
        }
        let address = Self { base, authorization: None };
        Ok(match user_info {
            None => address,
            Some(user_info) => {
                let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
                let plain = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
                address.with_password(&plain(user), &Secret::new(plain(password)))
            }
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

/// What may be shown of an address.
fn without_user(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let shown = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    (scheme + shown).chars().filter(|it| !it.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::Address;
    use crate::Secret;

    fn header(address: &Address) -> Option<&str> {
        address.authorization().map(Secret::expose)
    }

    #[test]
    fn addresses_are_read_and_shown_without_user_and_password() {
        for (text, base, authorization) in [
            ("mlflow://localhost:5000", "http://localhost:5000", None),
            ("http://10.0.0.7:5000/", "http://10.0.0.7:5000", None),
            (
                "https://ml.example/api/v4/projects/7/ml/mlflow",
                "https://ml.example/api/v4/projects/7/ml/mlflow",
                None,
            ),
            ("http://[::1]:5000", "http://[::1]:5000", None),
            ("https://ada:l%40ve@ml.example", "https://ml.example", Some("Basic YWRhOmxAdmU=")),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!((address.to_string().as_str(), header(&address)), (base, authorization));
            assert!(!format!("{address} {address:?}").contains("YWRh"));
        }
        let address: Address = "https://ada:x@ml.example".parse().expect("an address");
        assert_eq!(
            header(&address.with_token(&Secret::new("t0ken".to_owned()))),
            Some("Bearer t0ken")
        );
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_a_password() {
        for text in [
            "",
            "localhost:5000",
            "file:///etc/passwd",
            "sqlite:///x.db",
            "databricks",
            "ftp://ada:hunter2@host",
            "http://",
            "http://:5000",
            "http://ada:hunter2@",
            "http://host/?x=hunter2",
            "http://ho st/",
            "http://host:port",
            "http://host\r\nX-Header: 1",
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(!error.contains("hunter2@") && !error.contains('\n'), "{error}");
        }
    }
}
