//! A way to a node that can be slow, dead, or lie.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Chunks on their way through one connection; more wait at the sender.
const MAX_CHUNKS: usize = 1_024;
const CHUNK_BYTES: usize = 64 * 1024;
const WEB_PAGE: &str = "<!DOCTYPE html><html><body>502 Bad Gateway</body></html>";

/// What is wrong with the way to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Connections are refused, and those that were open break.
    Dead,
    /// Every request is answered by a web page.
    WebPage,
    /// Every answer ends in the middle.
    Truncated,
    /// Every block header that is answered names another receipts root than the block has.
    OtherReceiptsRoot,
}

/// A TCP proxy in front of a node. Ends when it is dropped.
#[derive(Debug)]
pub struct NodeProxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    accepting: Arc<Mutex<JoinHandle<()>>>,
    target: SocketAddr,
    delay: Duration,
}

impl NodeProxy {
    /// Listens in front of the node at `target` (`http://address:port`) and delays every byte that it answers.
    ///
    /// # Errors
    /// When the target is no such address, or there is no free port.
    pub async fn start(target: &str, delay: Duration) -> io::Result<Self> {
        let target = target.trim_start_matches("http://").trim_start_matches("ws://").trim_end_matches('/');
        let target: SocketAddr = target.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let fault = watch::Sender::new(Fault::None);
        let accepting = tokio::spawn(accept(listener, target, delay, fault.subscribe()));
        Ok(Self { address, fault, accepting: Arc::new(Mutex::new(accepting)), target, delay })
    }

    /// Where it listens, for JSON-RPC over HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens, for JSON-RPC over WebSocket.
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Makes the way faulty, or well again. Holds for whatever comes from now on.
    ///
    /// # Errors
    /// When a port that was given up cannot be listened on again.
    pub async fn set(&self, fault: Fault) -> io::Result<()> {
        let before = self.fault.send_replace(fault);
        if fault == Fault::Dead {
            self.accepting.lock().abort();
        } else if before == Fault::Dead {
            // The task that held the port may still be on its way out.
            let listener = loop {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => break listener,
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => tokio::task::yield_now().await,
                    Err(error) => return Err(error),
                }
            };
            *self.accepting.lock() = tokio::spawn(accept(listener, self.target, self.delay, self.fault.subscribe()));
        }
        Ok(())
    }
}

impl Drop for NodeProxy {
    fn drop(&mut self) {
        self.accepting.lock().abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, delay: Duration, fault: watch::Receiver<Fault>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(connection(client, target, delay, fault.clone()));
    }
}

async fn connection(client: TcpStream, target: SocketAddr, delay: Duration, mut fault: watch::Receiver<Fault>) {
    let now = *fault.borrow_and_update();
    let served = async {
        match now {
            Fault::Dead => {}
            Fault::WebPage => answer(client, "text/html", WEB_PAGE, WEB_PAGE.len()).await,
            Fault::Truncated => answer(client, "application/json", "{\"jsonrpc\":\"2.0\",\"id\":0,\"resu", 29).await,
            Fault::None | Fault::OtherReceiptsRoot => pass(client, target, delay, now).await,
        }
    };
    // A connection lives with the fault it was made under.
    tokio::select! {
        () = served => {}
        _ = fault.changed() => {}
    }
}

async fn answer(mut client: TcpStream, kind: &str, body: &str, length: usize) {
    let mut request = vec![0; CHUNK_BYTES];
    if client.read(&mut request).await.is_ok_and(|read| read > 0) {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        let _ = client.write_all(head.as_bytes()).await;
        let _ = client.write_all(body.as_bytes()).await;
        let _ = client.shutdown().await;
    }
}

async fn pass(client: TcpStream, target: SocketAddr, delay: Duration, fault: Fault) {
    let Ok(node) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), node.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_node, to_node) = node.into_split();
    tokio::select! {
        () = pump(from_client, to_node, Duration::ZERO, Fault::None) => {}
        () = pump(from_node, to_client, delay, fault) => {}
    }
}

/// Every chunk leaves `delay` after it came, so that a long answer is not slower than a short one.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration, fault: Fault) {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(MAX_CHUNKS);
    let read = async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(read) = from.read(&mut chunk).await {
            if read == 0 {
                break;
            }
            let mut bytes = chunk[..read].to_vec();
            if fault == Fault::OtherReceiptsRoot {
                lie(&mut bytes);
            }
            if sender.send((Instant::now() + delay, bytes)).await.is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = chunks.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}

/// Changes the first digit of every receipts root, which keeps the length.
fn lie(bytes: &mut [u8]) {
    const FIELD: &[u8] = b"\"receiptsRoot\":\"0x";
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(FIELD.len()).position(|window| window == FIELD) {
        at += found + FIELD.len();
        if let Some(digit) = bytes.get_mut(at) {
            *digit = if *digit == b'0' { b'1' } else { b'0' };
        }
    }
}
