//! `karat ui`: the store as pages for a browser on this machine.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
};

use karat_core::{Event, Exit, Failure, Observer as _};
use karat_store::{Access, Store};
use karat_ui::{Server, Site};
use serde_json::json;

use crate::{
    args::UiArgs,
    context::{STATE_DIR, Session, TOOL},
    env,
};

/// Programs that open an address in the browser a person has chosen.
const OPENERS: [&str; 3] = ["xdg-open", "open", "wslview"];

pub(crate) fn run(session: &Session, args: &UiArgs) -> Result<Exit, Failure> {
    // Not a workshop: pages need no tables, no engine and no threads of theirs.
    let store = Store::open(&session.path(Path::new(STATE_DIR)), Access::ReadOnly)?;
    let ip = args.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let server = Server::bind(SocketAddr::new(ip, args.port))?;
    let address = format!("http://{}/", server.address());
    if !ip.is_loopback() {
        session.observer().observe(Event::Warned {
            code: "ui-without-login".to_owned(),
            message: format!(
                "there is no login: whoever reaches {} can read everything in this store",
                server.address()
            ),
        });
    }
    session.text(&format!("{address}  (reads only; Ctrl-C ends it)"));
    session
        .json(&json!({ "event": "serving", "address": address, "is_loopback": ip.is_loopback() }));
    if args.open {
        open(session, &address);
    }
    let site =
        Site { store: &store, project: project(session), tool: TOOL.to_owned(), clock: &env::now };
    server.serve(&site, &session.stop);
    Ok(Exit::Pass)
}

/// The project's name; its folder's where `karat.toml` cannot be read, because a store is worth a look all the same.
fn project(session: &Session) -> String {
    match session.project() {
        Ok(project) => project.name.to_string(),
        Err(_) => std::path::absolute(session.root())
            .ok()
            .and_then(|it| Some(it.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "project".to_owned()),
    }
}

fn open(session: &Session, address: &str) {
    let opens = |program: &&str| {
        let mut command = Command::new(program);
        command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().is_ok()
    };
    if !OPENERS.iter().any(opens) {
        session.observer().observe(Event::Warned {
            code: "browser-not-opened".to_owned(),
            message: format!("no program here opens a browser: open {address} yourself"),
        });
    }
}
