//! What an idle connection costs this machine's kernel: some hundreds are opened over loopback, and what
//! the kernel has for sockets is looked at as they become more. Bounded by the descriptor limit; nothing
//! is sent, and everything is closed again without a trace (reset, so that no port waits).

use crate::host;
use crate::host::limits::{CACHES, SocketMemory, socket_memory, tcp_pages};
use crate::result::doctor::IdleConnection;
use socket2::SockRef;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// Connections to open at most.
const CONNECTIONS: u32 = 500;
/// Least connections that say anything: the kernel takes memory for sockets some tens at a time.
const LEAST: u32 = 100;
/// Descriptors to leave alone.
const SPARE: u64 = 128;
/// Looks. What others take and give is in some of the differences, what lay free in the first: the middle
/// one has least of both. Nothing is closed in between, as what is freed is not seen to be free at once.
const ROUNDS: usize = 5;

/// Measures it.
pub(super) fn measure() -> IdleConnection {
    let descriptors = host::raise_descriptors().unwrap_or(1024);
    let room = u32::try_from(descriptors.saturating_sub(SPARE) / 2).unwrap_or(u32::MAX);
    let connections = CONNECTIONS.min(room);
    if connections < LEAST {
        return not(format!("not measured: {descriptors} descriptors are too few for {LEAST} connections"));
    }
    match rounds(connections / ROUNDS as u32) {
        Ok(rounds) => judge(connections / ROUNDS as u32, &rounds),
        Err(error) => not(format!("not measured: {error}")),
    }
}

fn not(how: String) -> IdleConnection {
    IdleConnection { how, ..IdleConnection::default() }
}

/// What the kernel had before some connections and with them.
struct Round {
    before: Option<SocketMemory>,
    after: Option<SocketMemory>,
    tcp_pages: Option<i64>,
}

/// Opens this many connections in each round; all stay open until the last has been looked at.
fn rounds(connections: u32) -> io::Result<Vec<Round>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut ends = Vec::new();
    (0..ROUNDS).map(|_| round(&listener, connections, &mut ends)).collect()
}

fn round(listener: &TcpListener, connections: u32, ends: &mut Vec<TcpStream>) -> io::Result<Round> {
    let address = listener.local_addr()?;
    let pages = tcp_pages();
    let before = socket_memory();
    for _ in 0..connections {
        let dialled = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        SockRef::from(&dialled).set_linger(Some(Duration::ZERO))?;
        let (accepted, _) = listener.accept()?;
        ends.push(dialled);
        ends.push(accepted);
    }
    let after = socket_memory();
    let difference = |before: u64| Some(i64::try_from(tcp_pages()?).ok()? - i64::try_from(before).ok()?);
    Ok(Round { before, after, tcp_pages: pages.and_then(difference) })
}

/// Each round opened this many connections.
fn judge(connections: u32, rounds: &[Round]) -> IdleConnection {
    let each = |bytes: i64| bytes.max(0) as f64 / f64::from(connections);
    let pages: Vec<i64> = rounds.iter().filter_map(|round| round.tcp_pages).collect();
    let page = i64::try_from(host::page_bytes()).unwrap_or(4096);
    let (kernel_bytes, how) = match kernel_bytes(rounds) {
        Some((bytes, how)) => (Some(each(bytes)), how),
        None => (None, "the kernel's memory for sockets cannot be read, or others gave back more".into()),
    };
    IdleConnection {
        connections: connections * rounds.len() as u32,
        kernel_bytes,
        tcp_mem_bytes: middle(pages).map(|pages| each(pages * page)),
        how,
    }
}

fn middle(mut numbers: Vec<i64>) -> Option<i64> {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied()
}

/// Bytes for the connections of a round, and how they are known.
fn kernel_bytes(rounds: &[Round]) -> Option<(i64, String)> {
    let caches: Vec<_> = rounds.iter().filter_map(difference_of_caches).collect();
    if caches.len() == rounds.len() {
        // Each cache by itself: what others do to one of them is in that one only.
        let of_cache = |cache: usize| middle(caches.iter().map(|round| round[cache]).collect());
        let bytes = (0..CACHES.len()).filter_map(of_cache).map(|bytes| bytes.max(0)).sum();
        let how = format!(
            "growth of {} in /proc/slabinfo as they were opened, the middle of {ROUNDS} looks",
            CACHES.join(", ")
        );
        return Some((bytes, how));
    }
    let (first, last) = (rounds.first()?.before?, rounds.last()?.after?);
    let (SocketMemory::Slab(before), SocketMemory::Slab(after)) = (first, last) else { return None };
    // Over all rounds: one of them is less than what the kernel counts late.
    let bytes = (after as i64 - before as i64) / rounds.len() as i64;
    let how = "growth of Slab in /proc/meminfo as they were opened: rough, as other programs are in it (root \
               could read /proc/slabinfo)";
    // Else others gave back more than this took.
    (bytes > 0).then(|| (bytes, how.into()))
}

fn difference_of_caches(round: &Round) -> Option<[i64; CACHES.len()]> {
    let (Some(SocketMemory::Caches(before)), Some(SocketMemory::Caches(after))) = (round.before, round.after)
    else {
        return None;
    };
    let mut difference = [0; CACHES.len()];
    for ((difference, before), after) in difference.iter_mut().zip(before).zip(after) {
        *difference = after as i64 - before as i64;
    }
    Some(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_take_in_one_round_is_not_counted() {
        let round = |dentries: u64| Round {
            before: Some(SocketMemory::Caches([1000, 100, 10, 5, 0])),
            after: Some(SocketMemory::Caches([3000, 300, 30, 5 + dentries, 0])),
            tcp_pages: Some(0),
        };
        let measured = judge(10, &[round(900_000), round(40), round(80)]);
        assert_eq!((measured.kernel_bytes, measured.connections), (Some(230.0), 30));
        assert_eq!(measured.tcp_mem_bytes, Some(0.0));
        assert!(measured.how.contains("slabinfo"));
    }

    #[test]
    fn without_the_caches_the_growth_over_all_rounds_counts_and_it_is_called_rough() {
        let round = |before: u64, after: u64| Round {
            before: Some(SocketMemory::Slab(before)),
            after: Some(SocketMemory::Slab(after)),
            tcp_pages: None,
        };
        let measured = judge(10, &[round(1_000, 1_000), round(1_000, 9_000), round(9_000, 7_000)]);
        assert_eq!((measured.kernel_bytes, measured.tcp_mem_bytes), (Some(200.0), None));
        assert!(measured.how.contains("rough"));
        // Nothing is not what it costs.
        let lost = judge(10, &[round(1_000, 900)]);
        assert_eq!(lost.kernel_bytes, None);
        assert!(lost.how.contains("gave back"), "{}", lost.how);
    }

    #[test]
    fn an_idle_connection_costs_something_here() {
        // By its structures alone, where they can be seen; else whatever other programs left of it.
        let measured = measure();
        assert!(measured.connections >= LEAST || measured.how.starts_with("not measured"), "{measured:?}");
        if measured.how.contains("slabinfo") {
            assert!(measured.kernel_bytes.is_some_and(|bytes| bytes > 2_000.0), "{measured:?}");
        }
    }
}
