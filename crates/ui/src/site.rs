//! What is asked for, and whether it may be: one table from addresses to pages.

use std::net::IpAddr;

use karat_core::{Coded as _, Digest, ParseNameError, Timestamp};
use karat_store::{Store, StoreError};

use crate::{
    address::{Address, Asked, Query, TARGET_BYTES_MAX, parse},
    frame::{self, Head},
    html::{Html, html},
    http::{Request, Response},
    pages::{
        artifact, compare, ledger, lineage, model, models, overview, promotions, run, runs,
        snapshot, snapshots, verdict, verdicts, version,
    },
};

/// The site over one store.
pub struct Site<'a> {
    /// What it shows.
    pub store: &'a Store,
    /// Name of the project.
    pub project: String,
    /// Tool and version.
    pub tool: String,
    /// The time.
    pub clock: &'a (dyn Fn() -> Timestamp + Sync),
}

/// One look at one page.
pub(crate) struct Visit<'a> {
    pub(crate) store: &'a Store,
    /// What stands where the route has `{}`, at most two.
    pub(crate) captured: [&'a str; 2],
    pub(crate) query: &'a Query,
    pub(crate) now: Timestamp,
}

/// A page: what stands in its head, and its content.
pub(crate) type Page = (Head, Html);
type View = fn(&Visit<'_>) -> Result<Page, Trouble>;

/// Every page there is.
pub(crate) const ROUTES: &[(&str, View)] = &[
    ("/", overview::view),
    ("/runs", runs::view),
    ("/runs/{}", run::view),
    ("/compare", compare::view),
    ("/models", models::view),
    ("/models/{}", model::view),
    ("/models/{}/{}", version::view),
    ("/models/{}/{}/lineage", lineage::view),
    ("/verdicts", verdicts::view),
    ("/verdicts/{}", verdict::view),
    ("/promotions", promotions::view),
    ("/data", snapshots::view),
    ("/data/{}", snapshot::view),
    ("/artifacts/{}", artifact::view),
    ("/ledger", ledger::view),
];

/// What is no page, with its type and content: the reports' style sheet and what pages add to it, and the icon.
const FILES: &[(&str, &str, &[&str])] = &[
    ("/style.css", "text/css; charset=utf-8", &[karat_report::STYLE, include_str!("style.css")]),
    ("/icon.svg", "image/svg+xml", &[include_str!("icon.svg")]),
];

/// Why a page is not shown.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There is no such thing.
    Absent(String),
    /// The address does not name one.
    Unnamed(String),
    /// The store could not be read.
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::RunUnknown { .. }
            | StoreError::RunAmbiguous { .. }
            | StoreError::SnapshotUnknown { .. }
            | StoreError::ModelUnknown { .. }
            | StoreError::VersionUnknown { .. }
            | StoreError::AliasUnknown { .. }
            | StoreError::VerdictUnknown { .. }
            | StoreError::ObjectMissing { .. } => Self::Absent(error.to_string()),
            other => Self::Store(other),
        }
    }
}

impl From<ParseNameError> for Trouble {
    fn from(error: ParseNameError) -> Self {
        Self::Unnamed(error.to_string())
    }
}

/// 64 hex digits of an address.
pub(crate) fn digest(text: &str) -> Result<Digest, Trouble> {
    format!("sha256:{text}")
        .parse()
        .map_err(|_| Trouble::Unnamed("a digest has 64 hex digits".to_owned()))
}

impl Site<'_> {
    /// The answer to a request. Everything that decides about it happens here, without a socket.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Response {
        if let Some(refusal) = refused(request) {
            return refusal;
        }
        let asked = match parse(&request.target) {
            Ok(asked) => asked,
            Err(_) if TARGET_BYTES_MAX < request.target.len() => {
                return Response::plain(414, "the address is too long");
            }
            Err(reason) => return self.trouble(&Trouble::Unnamed(reason.to_owned())),
        };
        let path = request.target.split('?').next().unwrap_or_default();
        if let Some((_, content_type, body)) = FILES.iter().find(|(file, ..)| *file == path) {
            return Response { status: 200, content_type, allow: None, body: body.concat() };
        }
        match self.page(&asked) {
            Ok((head, body)) => self.framed(200, &head, body),
            Err(trouble) => self.trouble(&trouble),
        }
    }

    fn page(&self, asked: &Asked) -> Result<Page, Trouble> {
        for (route, view) in ROUTES {
            if let Some(captured) = captures(route, &asked.parts) {
                let (store, now) = (self.store, (self.clock)());
                return view(&Visit { store, captured, query: &asked.query, now });
            }
        }
        Err(Trouble::Absent("there is no such page".to_owned()))
    }

    fn trouble(&self, trouble: &Trouble) -> Response {
        let (status, title, code, message) = match trouble {
            Trouble::Absent(message) => (404, "Not here", None, message.clone()),
            Trouble::Unnamed(message) => (400, "No such address", None, message.clone()),
            Trouble::Store(error) => {
                (500, "The store could not be read", Some(error.code().as_str()), error.to_string())
            }
        };
        let hints = match trouble {
            Trouble::Store(error) => error.hints(),
            Trouble::Absent(_) | Trouble::Unnamed(_) => Vec::new(),
        };
        let hints: Vec<Html> =
            hints.iter().map(|it| html!("<p>{}</p>", frame::words(it))).collect();
        let code = code.map(|code| html!("<p><code>{}</code></p>", code));
        let body = html!(
            "<p>{}</p>{}{}<p><a href=\"{}\">Back to the overview</a></p>",
            frame::words(&message),
            code,
            hints,
            Address::of("/")
        );
        self.framed(status, &Head::of(title), body)
    }

    fn framed(&self, status: u16, head: &Head, body: Html) -> Response {
        let page = frame::page(&self.project, &self.tool, head, body);
        Response {
            status,
            content_type: "text/html; charset=utf-8",
            allow: None,
            body: page.into_string(),
        }
    }
}

/// Why a request is not looked at.
fn refused(request: &Request) -> Option<Response> {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        let refusal = Response::plain(405, "pages are only read: GET or HEAD");
        return Some(Response { allow: Some("GET, HEAD"), ..refusal });
    }
    if request.has_body {
        return Some(Response::plain(413, "a request for a page has no body"));
    }
    match &request.hosts[..] {
        [host] if is_ours(host) => None,
        // A page elsewhere whose name was made to point here would be allowed to read what it gets.
        [_] => Some(Response::plain(421, "this address is reached as localhost or by IP address")),
        _ => Some(Response::plain(400, "a request names one host")),
    }
}

/// Whether a `Host` is this machine's by number, or `localhost`: no name that a stranger's name server answers for. The port
/// may be another one: of a tunnel.
fn is_ours(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((ip, "")) => (ip, None),
            Some((ip, port)) => (ip, port.strip_prefix(':').or(Some("none"))),
            None => return false,
        },
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let is_port = |it: &str| it.parse::<u16>().is_ok();
    port.is_none_or(is_port)
        && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

/// What stands where the route has `{}`; `None` when the path is not the route's.
fn captures<'a>(route: &str, parts: &'a [String]) -> Option<[&'a str; 2]> {
    let wanted: Vec<&str> = route.split('/').filter(|it| !it.is_empty()).collect();
    if wanted.len() != parts.len() {
        return None;
    }
    let mut captured = [""; 2];
    let mut next = captured.iter_mut();
    for (wanted, part) in wanted.into_iter().zip(parts) {
        match wanted {
            "{}" => *next.next()? = part,
            fixed if fixed == part => {}
            _ => return None,
        }
    }
    Some(captured)
}
