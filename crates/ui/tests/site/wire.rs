//! The socket: what comes over it is answered, limited, or closed, and all of it ends when asked to.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use karat_core::{Coded as _, port::Stop};
use karat_store::{Access, Store};
use karat_ui::{Server, Site};

use crate::fixture::{Fixture, NOW};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Flag(AtomicBool);

impl Stop for Flag {
    fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves the store in `dir` while `work` talks to it. That this returns shows that serving ends when asked to.
fn served(dir: &Path, work: impl FnOnce(SocketAddr)) {
    let store = Store::open(dir, Access::ReadOnly).expect("a store that can be read");
    let clock = || NOW;
    let site = Site { store: &store, project: "p".to_owned(), tool: "t".to_owned(), clock: &clock };
    let server = Server::bind(ANY).expect("loopback has a free port");
    let stop = Flag(AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| server.serve(&site, &stop));
        let worked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(server.address())));
        stop.0.store(true, Ordering::Relaxed);
        if let Err(panic) = worked {
            std::panic::resume_unwind(panic);
        }
    });
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    stream
}

/// What the server says to these bytes, until it closes.
fn said(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    // A server that has refused may have closed already.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_page_comes_with_every_protection() {
    let fixture = Fixture::of("some text");
    served(fixture.dir.path(), |address| {
        let answer = said(address, GET.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        for line in [
            "HTTP/1.1 200 OK",
            "Content-Type: text/html; charset=utf-8",
            "X-Content-Type-Options: nosniff",
            "X-Frame-Options: DENY",
            "Referrer-Policy: no-referrer",
            "Cross-Origin-Resource-Policy: same-origin",
            "Cache-Control: no-store",
            &format!("Content-Length: {}", body.len()),
        ] {
            assert!(head.lines().any(|it| it == line), "no `{line}` in\n{head}");
        }
        let policy =
            head.lines().find(|it| it.starts_with("Content-Security-Policy: ")).expect("a policy");
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("script-src"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert!(body.ends_with("</html>\n"), "{body}");

        let head_only = said(address, GET.replace("GET", "HEAD").as_bytes());
        assert_eq!(head_only, format!("{head}\r\n\r\n"));
        let style = said(address, GET.replace("/ ", "/style.css ").as_bytes());
        assert!(style.contains("Content-Type: text/css; charset=utf-8") && style.contains(".skip"));
    });
}

#[test]
fn what_is_no_request_is_refused_and_what_is_too_much_too() {
    let fixture = Fixture::of("some text");
    served(fixture.dir.path(), |address| {
        let rebound = GET.replace("localhost", "evil.example");
        assert_eq!(status(&said(address, rebound.as_bytes())), "421");
        assert_eq!(status(&said(address, b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03")), "400");
        assert_eq!(
            status(&said(address, b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n")),
            "400"
        );
        let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(5000));
        assert_eq!(status(&said(address, long.as_bytes())), "414");
        let huge = format!("GET /{} HTTP/1.1\r\n", "a".repeat(1 << 20));
        assert_eq!(status(&said(address, huge.as_bytes())), "431");
        let endless = format!("GET / HTTP/1.1\r\n{}", "X-A: b\r\n".repeat(100));
        assert_eq!(status(&said(address, endless.as_bytes())), "431");
        let body = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n{}",
            "b".repeat(99_999)
        );
        assert_eq!(status(&said(address, body.as_bytes())), "413");
        let post = "POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\na=b";
        let refused = said(address, post.as_bytes());
        assert!(
            status(&refused) == "405" && refused.contains("\r\nAllow: GET, HEAD\r\n"),
            "{refused}"
        );
        // One request a connection: what follows is not looked at.
        assert_eq!(said(address, GET.repeat(3).as_bytes()).matches("HTTP/1.1").count(), 1);
    });
}

#[test]
fn clients_that_say_nothing_or_little_keep_nobody_waiting() {
    let fixture = Fixture::of("some text");
    served(fixture.dir.path(), |address| {
        let silent: Vec<TcpStream> = (0..12).map(|_| connect(address)).collect();
        assert_eq!(status(&said(address, GET.as_bytes())), "200");
        // Half a request is waited for, and then refused.
        let mut slow = connect(address);
        slow.write_all(b"GET / HT").expect("written");
        let mut answer = String::new();
        slow.read_to_string(&mut answer).expect("an answer");
        assert_eq!(status(&answer), "408");
        // Who leaves is forgotten.
        connect(address).shutdown(Shutdown::Both).expect("closed");
        assert_eq!(status(&said(address, GET.as_bytes())), "200");
        drop(silent);
    });
}

#[test]
fn more_connections_than_there_are_places_wait_for_one() {
    let fixture = Fixture::of("some text");
    served(fixture.dir.path(), |address| {
        let crowd: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
        drop(crowd);
        assert_eq!(status(&said(address, GET.as_bytes())), "200");
    });
}

#[test]
fn an_address_in_use_is_an_error_that_says_what_to_do() {
    let first = Server::bind(ANY).expect("loopback has a free port");
    let error = Server::bind(first.address()).err().expect("taken");
    assert_eq!(error.code().as_str(), "ui-address-unusable");
    assert!(error.hints()[0].contains("--port 0"), "{:?}", error.hints());
}
