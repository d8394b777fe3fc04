//! Features that some kernels offer and get wrong: they are not only tried, they prove themselves. Bytes
//! with a pattern go over a socket of loopback in pieces that begin and end anywhere, and must come out in
//! order.

use super::{BUFFERS, Builder, HALF, Trial, builder, connection, unexpected};
use crate::ring::buffer_ring::{BufferRing, GROUP};
use crate::ring::lent::{self, Lent};
use crate::ring::provided::Bundle;
use crate::ring::{Completion, Name, Operation, Pages, Socket, Span, Token, stride};
use io_uring::cqueue;
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Bytes of each piece. None is more than all buffers hold.
const PIECES: [usize; 12] = [40, 100, 7, 64, 33, 90, 1, 160, 32, 63, 65, 200];

/// The byte at this place of all that is sent.
fn byte(place: usize) -> u8 {
    (place % 251) as u8
}

/// The group of buffers anew, provided in this order. Leaked: a closed ring may end its last receive a
/// moment later. Two pages, once in the life of the program.
fn buffers_anew(
    trial: &Trial,
    order: [u16; BUFFERS as usize],
    incremental: bool,
) -> io::Result<&'static mut (Pages, BufferRing)> {
    // What was registered for the trials before, if it was.
    let _ = trial.ring.submitter().unregister_buf_ring(GROUP);
    let pages = Pages::new(u64::from(BUFFERS) * stride(HALF))?;
    let mut buffers = BufferRing::new(pages.memory(), BUFFERS, HALF)?;
    buffers.register(&trial.ring.submitter(), incremental)?;
    order.into_iter().for_each(|buffer| buffers.provide(buffer));
    buffers.publish();
    Ok(Box::leak(Box::new((pages, buffers))))
}

/// Whether these bytes of memory, from `offset` on, are what was sent at `place`.
fn is_in_order(pages: &Pages, offset: u64, length: usize, place: usize) -> bool {
    assert!(offset + length as u64 <= pages.memory().length);
    (0..length).all(|index| {
        // SAFETY: in the mapping, by the line above.
        let at = unsafe { pages.memory().base.add(offset as usize + index) };
        // SAFETY: mapped, and the kernel handed the buffer over.
        unsafe { at.read() == byte(place + index) }
    })
}

/// Receives that fill several buffers.
pub(super) fn of_bundles(trial: &mut Trial) -> io::Result<()> {
    let (pages, buffers) = buffers_anew(trial, [3, 0, 6, 1, 7, 2, 5, 4], false)?;
    let (mut ours, theirs) = connection()?;
    let builder = Builder { bundle: true, receive_most: u32::MAX, ..builder(Vec::new()) };
    let socket = Socket(Name::Descriptor(theirs.as_raw_fd()));
    let (mut place, mut armed, mut several) = (0, false, false);
    for piece in PIECES {
        let bytes: Vec<u8> = (place..place + piece).map(byte).collect();
        ours.write_all(&bytes)?;
        let end = place + piece;
        while place < end {
            if !std::mem::replace(&mut armed, true) {
                trial.push(builder.build(Operation::Receive { socket, limit: u32::MAX }))?;
            }
            let entry = trial.next()?;
            armed = cqueue::more(entry.flags());
            let whole = Completion {
                token: Token(entry.user_data()),
                result: entry.result(),
                more: armed,
                buffer: cqueue::buffer_select(entry.flags()),
                keeps_buffer: false,
            };
            several |= whole.result > HALF as i32;
            let mut bundle = Bundle::default();
            let mut part = Some(bundle.part(whole, buffers));
            while let Some(Completion { result: bytes @ 1.., buffer: Some(buffer), .. }) = part {
                if !is_in_order(pages, u64::from(buffer) * stride(HALF), bytes as usize, place) {
                    return Err(io::Error::other("bytes are out of order"));
                }
                place += bytes as usize;
                part = bundle.next(buffers);
                buffers.provide(buffer);
            }
            if part.is_some() {
                return Err(unexpected(&entry));
            }
            buffers.publish();
        }
    }
    if several { Ok(()) } else { Err(io::Error::other("one buffer at a time")) }
}

/// Bytes of each piece of a send, and the most pieces of one.
const SENT_EACH: usize = 4000;
/// Pieces whose bytes differ, by the place where they begin: as many as there are different bytes.
const SENT_KINDS: usize = 251;
/// Bytes after which a send must have come short: the buffers of both ends are small.
const SENT_MAX: usize = 64 << 20;

/// Sends from several buffers, until one comes short: all that was said to be sent arrives, and no more. Then
/// once more from where it stopped. With a completion for each send, and with one for the short ones only.
pub(super) fn of_send_bundles(trial: &mut Trial) -> io::Result<()> {
    // What comes late of receives before it is not its answer.
    trial.number += 1;
    let memory = pattern()?.memory();
    // What another trial registered there, if it did.
    let _ = trial.ring.submitter().unregister_buf_ring(lent::number(0));
    let mut group = Lent::new(&trial.ring.submitter(), trial.ring.as_raw_fd(), memory, 1)?;
    for skip_sent in [false, true] {
        let (ours, mut theirs) = connection()?;
        SockRef::from(&ours).set_send_buffer_size(16 * 1024)?;
        SockRef::from(&theirs).set_recv_buffer_size(16 * 1024)?;
        let (mut sent, mut arrived) = (0, 0);
        for _ in 0..3 {
            sent += send_until_short(trial, &mut group, &ours, skip_sent, sent)?;
            arrived += compare(&mut theirs, arrived, sent)?;
        }
        // And no more.
        drop(ours);
        if theirs.read(&mut [0]).is_ok_and(|bytes| bytes > 0) {
            return Err(io::Error::other("more bytes arrived than were said to be sent"));
        }
    }
    trial.ring.submitter().unregister_buf_ring(lent::number(0))
}

/// Bytes of every place modulo [`SENT_KINDS`]. Leaked, as an unanswered send may be reading it.
fn pattern() -> io::Result<&'static Pages> {
    let pages = Pages::new((SENT_KINDS + SENT_EACH) as u64)?;
    for place in 0..SENT_KINDS + SENT_EACH {
        // SAFETY: within the mapping.
        let at = unsafe { pages.memory().base.add(place) };
        // SAFETY: mapped, writable, and nobody else's yet.
        unsafe { at.write(byte(place)) };
    }
    Ok(Box::leak(Box::new(pages)))
}

/// Sends what belongs at `place` and behind it until the socket takes less than it is offered; how much it
/// took.
fn send_until_short(
    trial: &mut Trial,
    group: &mut Lent,
    ours: &TcpStream,
    skip_sent: bool,
    place: usize,
) -> io::Result<usize> {
    let builder = Builder { skip_sent, ..builder(Vec::new()) };
    let socket = Socket(Name::Descriptor(ours.as_raw_fd()));
    let mut taken = 0;
    while taken < SENT_MAX {
        let mut offered = 0;
        for piece in 0..usize::from(lent::SPANS) {
            // No two neighbours of a length.
            let length = (SENT_EACH - piece * 7) as u32;
            let offset = ((place + taken + offered) % SENT_KINDS) as u64;
            group.lend(0, Span { offset, length });
            offered += length as usize;
        }
        trial.push(builder.build(Operation::SendLent { socket, group: 0 }))?;
        let bytes = sent_of(trial, skip_sent, offered)?;
        taken += bytes;
        if bytes < offered {
            group.take_back(0);
            return Ok(taken);
        }
    }
    Err(io::Error::other("no send of several buffers comes short"))
}

/// How many bytes of the send that was pushed last were taken. What is skipped is told of by what follows it.
fn sent_of(trial: &mut Trial, skip_sent: bool, offered: usize) -> io::Result<usize> {
    let (sent, mark) = (trial.number, trial.number + (1 << 32));
    if skip_sent {
        trial.push_as(io_uring::opcode::Nop::new().build(), mark)?;
    }
    let mut taken = 0;
    loop {
        let entry = trial.next_of(sent..=mark)?;
        if entry.user_data() == mark {
            return Ok(offered);
        }
        match entry.result() {
            bytes @ 0.. if cqueue::more(entry.flags()) => taken += bytes as usize,
            bytes @ 0.. => return settle(trial, skip_sent, mark, taken + bytes as usize),
            error if -error == libc::EAGAIN => return settle(trial, skip_sent, mark, taken),
            _ => return Err(unexpected(&entry)),
        }
    }
}

/// Takes what came behind the answer.
fn settle(trial: &mut Trial, skip_sent: bool, mark: u64, taken: usize) -> io::Result<usize> {
    if skip_sent {
        trial.next_of(mark..=mark)?;
    }
    Ok(taken)
}

/// Receives what was sent, up to the place `end`; how much that was.
fn compare(theirs: &mut TcpStream, start: usize, end: usize) -> io::Result<usize> {
    let mut bytes = vec![0; end - start];
    theirs.read_exact(&mut bytes)?;
    match bytes.iter().enumerate().all(|(index, &got)| got == byte(start + index)) {
        true => Ok(end - start),
        false => Err(io::Error::other("bytes are out of order")),
    }
}

/// Receives behind each other into one buffer after the other, by two connections in turn, one of which
/// ends in the middle of a buffer.
pub(super) fn of_incremental_buffers(trial: &mut Trial) -> io::Result<()> {
    let (pages, buffers) = buffers_anew(trial, [3, 0, 6, 1, 7, 2, 5, 4], true)?;
    let mut sides = [connection()?, connection()?];
    let builder = builder(Vec::new());
    let (mut places, mut armed) = ([0; 2], [false; 2]);
    let mut filled = [0; BUFFERS as usize];
    let (first, ended) = (trial.number, PIECES.len() - 2);
    // Tokens of this trial, one for each connection.
    trial.number += 1;
    for (turn, piece) in PIECES.into_iter().chain([0]).enumerate() {
        let side = usize::from(turn % 2 == 1 && turn < ended);
        let bytes: Vec<u8> = (places[side]..places[side] + piece).map(byte).collect();
        let (ours, theirs) = &mut sides[side];
        if piece == 0 {
            ours.shutdown(std::net::Shutdown::Write)?;
        } else {
            ours.write_all(&bytes)?;
        }
        let (end, mut over) = (places[side] + piece, false);
        while places[side] < end || (piece == 0 && !over) {
            if !std::mem::replace(&mut armed[side], true) {
                let socket = Socket(Name::Descriptor(theirs.as_raw_fd()));
                let receive = builder.build(Operation::Receive { socket, limit: u32::MAX });
                trial.push_as(receive, first + side as u64)?;
            }
            let entry = trial.next_of(first..=first + 1)?;
            let whose = (entry.user_data() - first) as usize;
            armed[whose] = cqueue::more(entry.flags());
            over = entry.result() == 0;
            let Some(buffer) = cqueue::buffer_select(entry.flags()) else {
                if over && whose == side {
                    continue;
                }
                return Err(unexpected(&entry));
            };
            if entry.result() < 0 || whose != side {
                return Err(unexpected(&entry));
            }
            let at = &mut filled[usize::from(buffer)];
            let bytes = entry.result() as usize;
            let offset = u64::from(buffer) * stride(HALF) + *at as u64;
            if *at + bytes > HALF as usize || !is_in_order(pages, offset, bytes, places[side]) {
                return Err(io::Error::other("bytes are out of order"));
            }
            places[side] += bytes;
            *at += bytes;
            let keeps = cqueue::buffer_more(entry.flags());
            if keeps == (*at == HALF as usize) {
                return Err(io::Error::other("the end of a buffer is not told"));
            }
            if !keeps {
                *at = 0;
                buffers.provide(buffer);
                buffers.publish();
            }
        }
    }
    Ok(())
}
