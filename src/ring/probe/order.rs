//! Features that some kernels offer and get wrong: they are not only tried, they prove themselves. Bytes
//! with a pattern go over a socket of loopback in pieces that begin and end anywhere, and must come out in
//! order.

use super::{BUFFERS, Builder, HALF, Trial, builder, connection, unexpected};
use crate::ring::buffer_ring::{BufferRing, GROUP};
use crate::ring::provided::Bundle;
use crate::ring::{Completion, Name, Operation, Pages, Socket, Token, stride};
use io_uring::cqueue;
use std::io::{self, Write};
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
