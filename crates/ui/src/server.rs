//! The listener: one thread accepts, a fixed number of threads answer, and all of them end when asked to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use karat_core::{Code, Coded, Exit, port::Stop};

use crate::{
    Site,
    http::{Response, converse},
};

/// Threads that answer. Browsers keep a few connections open before they say anything on them.
const N_WORKERS: usize = 16;
/// Connections that may wait for one of them; the system keeps as many more as it likes to.
const QUEUE_MAX: usize = 64;
/// How often a stop is looked for, and how long an accept that failed is not tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Why pages cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum UiError {
    /// The address is in use, not this machine's, or not allowed.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl Coded for UiError {
    fn code(&self) -> Code {
        Code::new("ui-address-unusable")
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hints(&self) -> Vec<String> {
        vec!["`karat ui --port 0` takes any free port".to_owned()]
    }
}

/// A listener whose address is known, not serving yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Takes the address; port 0 takes any free one.
    pub fn bind(address: SocketAddr) -> Result<Self, UiError> {
        let bind = || {
            let listener = TcpListener::bind(address)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|source| UiError::Listen { address, source })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`. Requests that were begun are answered.
    pub fn serve(&self, site: &Site<'_>, stop: &dyn Stop) {
        let has_ended = AtomicBool::new(false);
        let (send, receive) = sync_channel(QUEUE_MAX);
        let receive = Mutex::new(receive);
        std::thread::scope(|scope| {
            for _ in 0..N_WORKERS {
                scope.spawn(|| {
                    while let Some(stream) = next(&receive) {
                        converse(stream, &has_ended, |request| {
                            // A bug in one page must not end the others.
                            catch_unwind(AssertUnwindSafe(|| site.answer(request)))
                                .unwrap_or_else(|_| Response::plain(500, "this page is broken"))
                        });
                    }
                });
            }
            scope.spawn(|| self.accept(send, &has_ended));
            while !stop.is_requested() {
                std::thread::sleep(PAUSE);
            }
            has_ended.store(true, Ordering::Relaxed);
            self.wake();
        });
    }

    /// Hands connections over until `has_ended`; dropping `send` ends the workers.
    fn accept(&self, send: SyncSender<TcpStream>, has_ended: &AtomicBool) {
        while !has_ended.load(Ordering::Relaxed) {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if send.send(stream).is_err() {
                        return;
                    }
                }
                // Out of file descriptors, most likely: connections that end give some back.
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Lets `accept` look at its flag.
    fn wake(&self) {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let _ = TcpStream::connect_timeout(&SocketAddr::new(ip, self.address.port()), PAUSE);
    }
}

fn next(receive: &Mutex<Receiver<TcpStream>>) -> Option<TcpStream> {
    receive.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
