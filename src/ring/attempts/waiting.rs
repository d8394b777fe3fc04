//! Tries of how an enter waits: until a time, for several with a shorter patience, by another clock,
//! with arguments the kernel has already, and how its waiting is accounted.

use super::hand::{ENTER_EXT_ARG, ENTER_GETEVENTS, HandRing, PATIENCE, Place};
use super::registration::{
    REGISTER_ENABLE_RINGS, SETUP_DEFER_TASKRUN, SETUP_R_DISABLED, SETUP_SINGLE_ISSUER,
};
use super::tools::{Pair, ensure, message, receive, same};
use super::{Ask, Feature, Found, Trouble};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::time::{Duration, Instant};

const ABS_TIMER: u32 = 1 << 5;
const EXT_ARG_REG: u32 = 1 << 6;
const NO_IOWAIT: u32 = 1 << 7;
const REGISTER_CLOCK: u32 = 29;
const REGISTER_MEM_REGION: u32 = 34;
/// Bytes of `struct io_uring_getevents_arg`.
const ARGUMENT: usize = 24;
/// A wait that is meant to end by itself.
const SHORT: Duration = Duration::from_millis(1);

pub(super) const FEATURES: &[Feature] = &[
    Feature { name: "wait until a time", carries: None, since: "5.11", ask: Ask::Feature(8), attempt: until },
    Feature {
        name: "wait for several, some time at least",
        carries: Some("wait=min:COUNT:TIME"),
        since: "6.12",
        ask: Ask::Feature(15),
        attempt: minimum,
    },
    Feature {
        name: "wait until a point in time",
        carries: None,
        since: "6.12",
        ask: Ask::Enter(5),
        attempt: absolute,
    },
    Feature {
        name: "wait by another clock",
        carries: None,
        since: "6.12",
        ask: Ask::Register(29),
        attempt: clock,
    },
    Feature {
        name: "arguments of a wait, registered",
        carries: None,
        since: "6.13",
        ask: Ask::Register(34),
        attempt: region,
    },
    Feature {
        name: "waiting is no waiting for a disk",
        carries: Some("no-iowait=on"),
        since: "6.15",
        ask: Ask::Feature(17),
        attempt: no_iowait,
    },
];

fn until() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let done = ring.answer_within(SHORT)?;
    ensure(done.is_none(), || "a completion of nothing".into())?;
    Ok("it ended after 1 ms".into())
}

/// What an enter takes: the least time in microseconds, and the address of a time.
fn argument(least_us: u32, time: &Place) -> Found<Place> {
    let place = Place::new(ARGUMENT)?;
    place.put(12, least_us);
    place.put(16, time.address(0));
    Ok(place)
}

fn time(time: Duration) -> Found<Place> {
    Place::of([time.as_secs(), u64::from(time.subsec_nanos())])
}

/// Waits for two completions where one comes: after the least time one is enough.
fn minimum() -> Found<String> {
    let flags = SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN;
    let (mut ring, mut pair) = (HandRing::new(flags)?, Pair::new()?);
    let (place, sent) = (Place::new(64)?, message(20));
    pair.feed_and_see(&sent)?;
    ring.push(receive(pair.fd(), &place, 64));
    let argument = argument(1000, &time(PATIENCE)?)?;
    let begun = Instant::now();
    ring.enter(2, ENTER_GETEVENTS | ENTER_EXT_ARG, argument.address(0), ARGUMENT)?;
    ensure(begun.elapsed() < PATIENCE, || format!("it waited {PATIENCE:?} instead of 1 ms"))?;
    let count = ring.count()? as usize;
    same(&place.read(0, count), &sent)?;
    Ok("one of two was enough after 1 ms".into())
}

/// The enter ends because its time has come, and with nothing else.
fn ends(ring: &mut HandRing, flags: u32, argument: u64, size: usize) -> Found<()> {
    let answer = ring.enter(1, ENTER_GETEVENTS | flags, argument, size);
    match answer.map_err(|error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0))) {
        Err(Errno::ETIME) => Ok(()),
        Err(errno) => Err(Trouble::Refused(errno)),
        Ok(_) => Err(Trouble::Wrong("it ended before its time".into())),
    }
}

fn absolute() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(io::Error::from)?;
    let then = Duration::from(now) + SHORT;
    let argument = argument(0, &time(then)?)?;
    ends(&mut ring, ENTER_EXT_ARG | ABS_TIMER, argument.address(0), ARGUMENT)?;
    Ok("it ended at its time".into())
}

fn clock() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let clock = Place::new(16)?;
    clock.put(0, libc::CLOCK_BOOTTIME);
    ring.register(REGISTER_CLOCK, Some(&clock), 0)?;
    let argument = argument(0, &time(SHORT)?)?;
    ends(&mut ring, ENTER_EXT_ARG, argument.address(0), ARGUMENT)?;
    Ok("it ended after 1 ms of CLOCK_BOOTTIME".into())
}

fn region() -> Found<String> {
    const TYPE_USER: u32 = 1;
    const WAIT_ARGUMENTS: u64 = 1;
    const HAS_TIME: u32 = 1;
    const SIZE: usize = 64;
    // Only a ring that is still disabled takes one.
    let (mut ring, mut pair) = (HandRing::new(SETUP_R_DISABLED)?, Pair::new()?);
    let waits = Place::new(4096)?;
    waits.put(0, [SHORT.as_secs(), u64::from(SHORT.subsec_nanos())]);
    waits.put(20, HAS_TIME);
    let region = Place::new(64)?;
    region.put(0, [waits.address(0), 4096]);
    region.put(16, TYPE_USER);
    let argument = Place::of([region.address(0), WAIT_ARGUMENTS, 0, 0])?;
    ring.register(REGISTER_MEM_REGION, Some(&argument), 1)?;
    ring.register(REGISTER_ENABLE_RINGS, None, 0)?;
    ends(&mut ring, ENTER_EXT_ARG | EXT_ARG_REG, 0, SIZE)?;
    pair.echo(&mut ring)?;
    Ok("it ended after 1 ms".into())
}

fn no_iowait() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let (place, sent) = (Place::new(64)?, message(20));
    pair.feed(&sent)?;
    ring.push(receive(pair.fd(), &place, 64));
    let argument = argument(0, &time(PATIENCE)?)?;
    ring.enter(1, ENTER_GETEVENTS | ENTER_EXT_ARG | NO_IOWAIT, argument.address(0), ARGUMENT)?;
    let count = ring.count()? as usize;
    same(&place.read(0, count), &sent)?;
    Ok("it waited for 20 bytes".into())
}
