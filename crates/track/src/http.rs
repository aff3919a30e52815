//! Requests: tried again when the server is busy or away, never for ever, and with no answer trusted to be short.

use std::{cell::Cell, fs::File, time::Duration};

use karat_core::Digest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::{
    Agent, RequestBuilder,
    http::{HeaderMap, StatusCode, header},
};

use crate::{Address, Artifact, TrackError, error::plain};

/// Longest answer that is read. A run with a thousand metrics answers with a tenth of this.
const ANSWER_MAX: u64 = 4 << 20;
/// For a connection to stand.
const CONNECT: Duration = Duration::from_secs(10);
/// For one request and its answer.
const REQUEST: Duration = Duration::from_secs(60);
/// For one file.
const UPLOAD: Duration = Duration::from_secs(600);
/// Longest wait that a server can ask for with `Retry-After`.
const ASKED_MAX: Duration = Duration::from_secs(30);
/// What stays as it is in a query or in one part of a path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Error code of a thing that is there already.
pub(crate) const EXISTS: &str = "RESOURCE_ALREADY_EXISTS";
/// Error code of a thing that is not there.
pub(crate) const ABSENT: &str = "RESOURCE_DOES_NOT_EXIST";

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries of one request.
    pub n_tries: u32,
    /// Wait before the second; each one after waits twice as long.
    pub first: Duration,
    /// All waits together, over everything that is told.
    pub all: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { n_tries: 5, first: Duration::from_millis(500), all: Duration::from_secs(120) }
    }
}

/// A connection to one server.
pub(crate) struct Http {
    agent: Agent,
    address: Address,
    patience: Patience,
    waited: Cell<Duration>,
}

/// What a try came to, when not to an answer.
enum Setback {
    /// Worth another try.
    Passing { reason: String, retry_after: Option<Duration> },
    /// Not.
    Final(TrackError),
}

impl Http {
    pub(crate) fn new(address: Address, patience: Patience) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A token goes to the address it was given for, and nowhere else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(REQUEST))
            .user_agent("karat")
            .build();
        Self { agent: config.new_agent(), address, patience, waited: Cell::default() }
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// `GET`.
    pub(crate) fn get(&self, call: &str, query: &[(&str, &str)]) -> Result<Value, TrackError> {
        let pairs = query.iter().map(|(key, value)| format!("{key}={}", escape(value)));
        let url = format!("{}?{}", self.api(call), pairs.collect::<Vec<_>>().join("&"));
        let headers = self.headers();
        self.again_and_again(call, &mut || Ok(None), &|| {
            self.agent.get(&url).signed(&headers).call()
        })
    }

    /// `POST`, for what may be said twice without harm.
    pub(crate) fn post(&self, call: &str, body: &Value) -> Result<Value, TrackError> {
        self.post_once(call, body, &mut || Ok(None))
    }

    /// `POST`, for what must not be said twice: when an answer is lost, `found` looks whether the server heard.
    pub(crate) fn post_once(
        &self,
        call: &str,
        body: &Value,
        found: &mut dyn FnMut() -> Result<Option<Value>, TrackError>,
    ) -> Result<Value, TrackError> {
        let (url, text, headers) = (self.api(call), body.to_string(), self.headers());
        self.again_and_again(call, found, &|| {
            let request = self.agent.post(&url).content_type("application/json");
            request.signed(&headers).send(&text)
        })
    }

    /// Sends a file to a path of the server's artifacts.
    pub(crate) fn put(&self, at: &str, artifact: &Artifact) -> Result<(), TrackError> {
        let parts: Vec<String> = at.split('/').filter(|it| !it.is_empty()).map(escape).collect();
        let url = format!(
            "{}/api/2.0/mlflow-artifacts/artifacts/{}",
            self.address.base(),
            parts.join("/")
        );
        let unreadable = |source| TrackError::Unreadable { name: artifact.name.clone(), source };
        File::open(&artifact.path).map_err(unreadable)?;
        let headers = self.headers();
        self.again_and_again(&artifact.name, &mut || Ok(None), &|| {
            // Opened anew for each try: a try that failed may have read half of it.
            let file = File::open(&artifact.path)?;
            let request = self.agent.put(&url).content_type("application/octet-stream");
            let request = request.config().timeout_global(Some(UPLOAD)).build();
            request.signed(&headers).send(file)
        })
        .map(drop)
    }

    /// For messages.
    pub(crate) fn malformed(&self, call: &str, reason: impl Into<String>) -> TrackError {
        TrackError::Malformed {
            server: self.address.to_string(),
            call: call.to_owned(),
            reason: reason.into(),
        }
    }

    fn api(&self, call: &str) -> String {
        format!("{}/api/2.0/mlflow/{call}", self.address.base())
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // Control characters, which no token has, make it no header: then the server will ask for one.
        if let Some(value) = self.address.authorization()
            && let Ok(mut value) = header::HeaderValue::from_str(value.expose())
        {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        headers
    }

    fn again_and_again(
        &self,
        call: &str,
        found: &mut dyn FnMut() -> Result<Option<Value>, TrackError>,
        send: &dyn Fn() -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, TrackError> {
        let mut wait = self.patience.first;
        for n in 1.. {
            let (reason, retry_after) = match self.answer(call, send()) {
                Ok(value) => return Ok(value),
                Err(Setback::Final(error)) => return Err(error),
                Err(Setback::Passing { reason, retry_after }) => (reason, retry_after),
            };
            let pause = retry_after.unwrap_or_else(|| spread(wait, call, n));
            let waited = self.waited.get() + pause;
            if self.patience.n_tries <= n || self.patience.all < waited {
                let server = self.address.to_string();
                return Err(TrackError::Down { server, n_tries: n, reason });
            }
            std::thread::sleep(pause);
            self.waited.set(waited);
            wait *= 2;
            if let Some(value) = found()? {
                return Ok(value);
            }
        }
        unreachable!("the tries are counted")
    }

    fn answer(
        &self,
        call: &str,
        result: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, Setback> {
        let passing = |reason, retry_after| Setback::Passing { reason, retry_after };
        let mut response = result.map_err(|error| passing(plain(&error.to_string()), None))?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|it| it.to_str().ok()?.parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(ASKED_MAX));
        let text =
            response.body_mut().with_config().limit(ANSWER_MAX).lossy_utf8(true).read_to_string();
        let (server, call) = (self.address.to_string(), call.to_owned());
        if status.is_redirection() {
            return Err(Setback::Final(TrackError::Redirected { server, call }));
        }
        let text = match text {
            Ok(text) => text,
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                let reason = "it is longer than 4 MiB";
                return Err(Setback::Final(self.malformed(&call, reason)));
            }
            Err(error) => return Err(passing(plain(&error.to_string()), retry_after)),
        };
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err(passing(format!("status {status}"), retry_after));
        }
        let value: Option<Value> = match text.trim() {
            "" => Some(Value::Null),
            text => serde_json::from_str(text).ok(),
        };
        if status.is_success() {
            return value.ok_or_else(|| Setback::Final(self.malformed(&call, "it is no JSON")));
        }
        let part = |name: &str| value.as_ref().and_then(|it| it.get(name)?.as_str());
        let message = match (part("error_code"), part("message")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, Some(message)) => message.to_owned(),
            (None, None) => text,
        };
        let (status, message) = (status.as_u16(), plain(&message));
        Err(Setback::Final(TrackError::Refused { server, call, status, message }))
    }
}

impl TrackError {
    /// Whether the server refused with this error code of MLflow.
    pub(crate) fn is(&self, error_code: &str) -> bool {
        matches!(self, Self::Refused { message, .. } if message.starts_with(error_code))
    }
}

/// A request that says who we are.
trait Signed {
    fn signed(self, headers: &HeaderMap) -> Self;
}

impl<B> Signed for RequestBuilder<B> {
    fn signed(mut self, headers: &HeaderMap) -> Self {
        if let Some(own) = self.headers_mut() {
            own.extend(headers.clone());
        }
        self
    }
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// `wait` and up to half of it more: runners that were turned away together do not come back together.
fn spread(wait: Duration, call: &str, n: u32) -> Duration {
    let seed = format!("{} {call} {n}", std::process::id());
    let share = f64::from(Digest::of(seed.as_bytes()).as_bytes()[0]) / 510.0;
    wait.mul_f64(1.0 + share)
}
