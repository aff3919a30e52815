//! `karat ui`: says where it listens, answers there, warns of addresses that others reach, ends when asked to.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

use karat_testkit::Sandbox;
use serde_json::Value;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

/// `karat LINE` and the first line it says.
fn serving(sandbox: &Sandbox, line: &str) -> (Child, String) {
    let mut child = sandbox.start(line);
    let mut first = String::new();
    let stdout = child.stdout.as_mut().expect("piped");
    BufReader::new(stdout).read_line(&mut first).expect("it says where");
    (child, first)
}

fn get(address: &str, path: &str) -> String {
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// Exit code and stderr after a signal.
fn ended(child: Child, signal: &str) -> (Option<i32>, String) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("`kill` is everywhere").success());
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn pages_are_served_until_a_signal() {
    let sandbox = Sandbox::trained(KARAT);
    for signal in ["-INT", "-TERM"] {
        let (child, first) = serving(&sandbox, "ui --port 0 --json");
        let event: Value = serde_json::from_str(&first).expect("a line of JSON");
        assert_eq!(
            (event["event"].as_str(), event["is_loopback"].as_bool()),
            (Some("serving"), Some(true))
        );
        let address = event["address"].as_str().expect("an address");
        assert!(address.starts_with("http://127.0.0.1:"), "{address}");
        let page = get(address, "/");
        assert!(
            page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("churn@champion"),
            "{page}"
        );
        let version = get(address, "/models/churn/1");
        assert!(version.contains("✓ pass") && version.contains("<svg"), "{version}");
        assert_eq!(ended(child, signal), (Some(0), String::new()), "{signal}");
    }
}

#[test]
fn other_addresses_only_when_asked_for_and_with_a_warning() {
    let sandbox = Sandbox::trained(KARAT);
    let (child, first) = serving(&sandbox, "ui --port 0 --bind 0.0.0.0");
    assert!(first.starts_with("http://0.0.0.0:"), "{first}");
    let (code, stderr) = ended(child, "-INT");
    assert_eq!(code, Some(0));
    assert!(stderr.contains("warning[ui-without-login]: there is no login: "), "{stderr}");
}

#[test]
fn a_browser_that_is_not_there_is_a_warning() {
    let sandbox = Sandbox::trained(KARAT);
    let mut command = sandbox.command("ui --port 0 --open");
    command.env("PATH", sandbox.path()).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.as_mut().expect("piped"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("it says where");
    let address = first.split(' ').next().unwrap_or_default();
    assert!(get(address, "/runs").contains("200 OK"));
    let (code, stderr) = ended(child, "-INT");
    assert_eq!(code, Some(0));
    assert!(stderr.contains("warning[browser-not-opened]: "), "{stderr}");
}

#[test]
fn what_cannot_be_served_is_an_error() {
    let sandbox = Sandbox::trained(KARAT);
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = taken.local_addr().expect("an address").port();
    let _ = sandbox
        .karat(&format!("ui --port {port}"))
        .expect_code(2)
        .expect_error("ui-address-unusable", &["hint: `karat ui --port 0` takes any free port"]);
    let empty = Sandbox::new(KARAT);
    let _ = empty.karat("ui --port 0").expect_code(2).expect_error("store-absent", &[]);
    let _ = sandbox.karat("ui --bind example.com").expect_code(2);
}
