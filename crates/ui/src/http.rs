//! As much HTTP/1.1 as a page needs: one request a connection, `GET` and `HEAD`, no body, every part with a limit.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use httparse::Status;

/// Bytes a request's head may have.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers it may have.
const HEADERS_MAX: usize = 64;
/// How long a client may take to say what it wants.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a client may take to accept a piece of the answer.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a client that says nothing is left for a stop.
const PAUSE: Duration = Duration::from_millis(100);
/// How long what a refused client still sends is read, so that it gets to see why.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(200);
/// And how much of it.
const DRAIN_BYTES_MAX: usize = 256 << 10;

/// The head of a request, as far as a page depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`.
    pub method: String,
    /// `/runs?step=train`.
    pub target: String,
    /// Every `Host` header.
    pub hosts: Vec<String>,
    /// Whether a body follows.
    pub has_body: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// `200`.
    pub status: u16,
    /// `text/html; charset=utf-8`.
    pub content_type: &'static str,
    /// The methods that are allowed, where another was asked for.
    pub allow: Option<&'static str>,
    /// The content.
    pub body: String,
}

impl Response {
    /// A line of text.
    pub(crate) fn plain(status: u16, text: &str) -> Self {
        let body = format!("{text}\n");
        Self { status, content_type: "text/plain; charset=utf-8", allow: None, body }
    }
}

/// Sent with every answer. Nothing may load, run, frame or be sent anywhere but pages, one style sheet and one icon of this
/// address; text that got past the escaping could do nothing.
pub(crate) const HEADERS: &[(&str, &str)] = &[
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
    ("Connection", "close"),
];

/// Reads one request, has it answered, writes the answer. What goes wrong on the wire is nobody's concern but the client's.
/// Once `has_ended`, who has said nothing yet is not listened to.
pub(crate) fn converse(
    mut stream: TcpStream,
    has_ended: &AtomicBool,
    answer: impl FnOnce(&Request) -> Response,
) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_write_timeout(Some(WRITE_TIME_MAX));
    match read_head(&mut stream, has_ended) {
        Ok(Some(request)) => {
            let response = answer(&request);
            let _ = write(&mut stream, &response, request.method == "HEAD");
            if request.has_body {
                drain(&mut stream);
            }
        }
        Ok(None) => {}
        Err(refusal) => {
            let _ = write(&mut stream, &refusal, false);
            drain(&mut stream);
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// The head; `None` when the client left without a word.
fn read_head(stream: &mut TcpStream, has_ended: &AtomicBool) -> Result<Option<Request>, Response> {
    let until = Instant::now() + HEAD_TIME_MAX;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return if head.is_empty() { Ok(None) } else { Err(too_slow()) };
        }
        if head.is_empty() && has_ended.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let _ = stream.set_read_timeout(Some(left.min(PAUSE)));
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(n) => head.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if is_timeout(&error) => continue,
            Err(_) => return Ok(None),
        }
        if HEAD_BYTES_MAX < head.len() {
            return Err(Response::plain(431, "the request's head is too large"));
        }
        if let Some(request) = parse(&head)? {
            return Ok(Some(request));
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn too_slow() -> Response {
    Response::plain(408, "the request took too long")
}

/// The request, once its head is complete.
fn parse(head: &[u8]) -> Result<Option<Request>, Response> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(Status::Partial) => return Ok(None),
        Ok(Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Response::plain(431, "the request has too many headers"));
        }
        Err(_) => return Err(Response::plain(400, "this is not an HTTP/1.1 request")),
    }
    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        ..Request::default()
    };
    for header in parsed.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("Host") {
            request.hosts.push(String::from_utf8_lossy(header.value).into_owned());
        }
        request.has_body |=
            is("Transfer-Encoding") || (is("Content-Length") && header.value != b"0");
    }
    Ok(Some(request))
}

fn write(stream: &mut impl Write, response: &Response, is_head_only: bool) -> io::Result<()> {
    let Response { status, content_type, allow, body } = response;
    let mut head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n",
        reason(*status),
        body.len()
    );
    for (name, value) in HEADERS.iter().copied().chain(allow.map(|it| ("Allow", it))) {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    if !is_head_only {
        head.push_str(body);
    }
    stream.write_all(head.as_bytes())?;
    stream.flush()
}

/// Without this the system answers unread bytes with a reset, which can overtake the answer.
fn drain(stream: &mut TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let until = Instant::now() + DRAIN_TIME_MAX;
    let (mut buffer, mut n_read) = ([0; 4096], 0);
    while n_read < DRAIN_BYTES_MAX {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => n_read += n,
        }
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::{Response, parse, write};

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let whole = b"GET /runs?page=2 HTTP/1.1\r\nhost: localhost:1\r\nContent-Length: 0\r\n\r\n";
        for n in 0..whole.len() {
            assert_eq!(parse(&whole[..n]), Ok(None), "{n} bytes");
        }
        let request = parse(whole).expect("a request").expect("complete");
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/runs?page=2"));
        assert_eq!((request.hosts, request.has_body), (vec!["localhost:1".to_owned()], false));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let status = |head: &[u8]| parse(head).expect_err("refused").status;
        assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400);
        assert_eq!(status(b"GET /a b HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost\r\n\r\n"), 400);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
        assert_eq!(status(many.as_bytes()), 431);
        for body in ["Content-Length: 5", "transfer-encoding: chunked"] {
            let head = format!("GET / HTTP/1.1\r\n{body}\r\n\r\n");
            assert!(parse(head.as_bytes()).expect("a request").expect("complete").has_body);
        }
    }

    #[test]
    fn an_answer_to_head_has_the_length_and_no_content() {
        let mut out = Vec::new();
        write(&mut out, &Response::plain(404, "nothing"), true).expect("memory can be written");
        let text = String::from_utf8(out).expect("ASCII");
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{text}");
        assert!(text.contains("\r\nContent-Length: 8\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(text.contains("default-src 'none'") && text.contains("nosniff"), "{text}");
    }
}
