//! The client that most comparisons rest on: a thread per connection, blocking calls, no verification,
//! no latency. Here only as a yardstick of what a client costs.

use crate::compare::pin;
use crate::server::Server;
use nix::time::{ClockId, clock_gettime};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes of a message.
const SIZE: usize = 64;
/// Stack of a thread, bytes.
const STACK: usize = 64 * 1024;

/// Nanoseconds of CPU per message of one slice, on CPU 1.
pub fn slice(server: &Server, connections: usize, seconds: u32) -> io::Result<f64> {
    let streams =
        (0..connections).map(|_| TcpStream::connect(server.address)).collect::<io::Result<Vec<_>>>()?;
    let (stop, messages, nanoseconds) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let workers = streams
            .into_iter()
            .map(|stream| {
                let (stop, messages, nanoseconds) = (&stop, &messages, &nanoseconds);
                let work = move || -> io::Result<()> {
                    pin(1)?;
                    let (count, spent) = ping(stream, stop)?;
                    messages.fetch_add(count, Ordering::Relaxed);
                    nanoseconds.fetch_add(spent, Ordering::Relaxed);
                    Ok(())
                };
                thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)
            })
            .collect::<io::Result<Vec<_>>>()?;
        thread::sleep(Duration::from_secs(seconds.into()));
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().try_for_each(|worker| worker.join().expect("a thread that pings does not panic"))
    })?;
    Ok(nanoseconds.into_inner() as f64 / messages.into_inner() as f64)
}

/// Messages sent and answered until told to stop, and nanoseconds of CPU they took.
fn ping(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<(u64, u64)> {
    stream.set_nodelay(true)?;
    let mut bytes = [7; SIZE];
    let mut count = 0;
    let cpu = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let begin = cpu()?;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)?;
        count += 1;
    }
    Ok((count, (cpu()? - begin).as_nanos() as u64))
}
