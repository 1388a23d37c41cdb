//! The load generator: keep-alive HTTP/1.1 connections on one thread, with as little work of its own as possible.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Failed, measure::Samples};

/// Connections at a time.
pub(in crate::scenario) const CONNECTIONS: usize = 64;
/// Bytes that an answer is expected to have at the most; a longer one is read all the same.
const ANSWER_BYTES: usize = 1_024;

/// Sends every request once, on each connection the next one when the last one is answered. Seconds until all are answered.
pub(in crate::scenario) fn closed(address: SocketAddr, requests: &Arc<Vec<Vec<u8>>>) -> Result<f64, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(drive(address, requests, None))?.0)
}

/// Sends every request once, so many a second, whether those before are answered or not. Seconds from when each was due.
pub(in crate::scenario) fn open(address: SocketAddr, requests: &Arc<Vec<Vec<u8>>>, rate: f64) -> Result<Samples, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let interval = Duration::try_from_secs_f64(1.0 / rate)?;
    Ok(Samples(runtime.block_on(drive(address, requests, Some(interval)))?.1))
}

/// Seconds of the whole, and of every request.
async fn drive(address: SocketAddr, requests: &Arc<Vec<Vec<u8>>>, interval: Option<Duration>) -> Result<(f64, Vec<f64>), Failed> {
    let mut streams = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let schedule = interval.map(|interval| Schedule { start, interval });
    let tasks: Vec<_> =
        streams.into_iter().map(|stream| tokio::spawn(send(stream, Arc::clone(requests), Arc::clone(&next), schedule))).collect();
    let mut seconds = Vec::with_capacity(requests.len());
    for task in tasks {
        seconds.extend(task.await??);
    }
    Ok((start.elapsed().as_secs_f64(), seconds))
}

/// When requests are due.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    interval: Duration,
}

impl Schedule {
    /// Waits until a request is due. Returns when its time begins to count: from when it was due where it could not be sent in
    /// time, because no connection was free; how late the timer is, by up to a millisecond, is no fault of the server's.
    async fn due(&self, index: usize) -> Instant {
        let due = self.start + self.interval.mul_f64(index as f64);
        if Instant::now() >= due {
            return due;
        }
        tokio::time::sleep_until(due.into()).await;
        Instant::now()
    }
}

/// Sends what is next until nothing is left. Seconds of every request that went by this connection.
async fn send(
    mut stream: TcpStream,
    requests: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicUsize>,
    schedule: Option<Schedule>,
) -> Result<Vec<f64>, Failed> {
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    let mut seconds = Vec::with_capacity(requests.len() / CONNECTIONS + 1);
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = requests.get(index) else { return Ok(seconds) };
        let began = match schedule {
            Some(schedule) => schedule.due(index).await,
            None => Instant::now(),
        };
        stream.write_all(request).await?;
        answer.clear();
        while body(&answer)?.is_none() {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err("the server closed the connection before it answered".into());
            }
        }
        seconds.push(began.elapsed().as_secs_f64());
        taken(&answer)?;
    }
}

/// The body of an answer; `None` while it has not come as a whole.
fn body(answer: &[u8]) -> Result<Option<&[u8]>, Failed> {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end])?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, length) = fields
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .ok_or_else(|| format!("the answer does not say how long it is: {head}"))?;
    let start = end + 4;
    Ok(answer.get(start..start + length.trim().parse::<usize>()?))
}

/// What is refused is no measure of anything.
fn taken(answer: &[u8]) -> Result<(), Failed> {
    let result = br#""result":"#;
    if answer.windows(result.len()).any(|bytes| bytes == result) {
        return Ok(());
    }
    Err(format!("a request is refused: {}", String::from_utf8_lossy(answer)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_as_much_has_come_as_it_says() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nx: y\r\n\r\nbody";
        for cut in 0..answer.len() {
            assert!(body(&answer[..cut]).unwrap().is_none(), "after {cut} bytes");
        }
        assert_eq!(body(answer).unwrap(), Some(b"body".as_slice()));
        assert!(body(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "it does not say how long it is");
    }

    #[test]
    fn a_refusal_is_an_error_that_says_what_was_answered() {
        assert!(taken(br#"{"id":1,"result":{}}"#).is_ok());
        let error = taken(br#"{"id":1,"error":{"code":-32005}}"#).unwrap_err().to_string();
        assert!(error.contains("-32005"), "{error}");
    }
}
