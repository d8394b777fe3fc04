//! A server that echoes, but for one thing: one thread, level-triggered readiness, nothing of the program's
//! own servers. What it does to which connection is decided beforehand ([`Manner`]); it notes what it
//! received and sent where it lied, so that what the load generator says of it can be held against it.
//!
//! It knows the payload only to tell which connection is which.

use c10k::load::payload::Key;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How the server behaves.
#[derive(Default)]
pub struct Manner {
    /// The connections it lies to, by the load generator's number, and what it does to them.
    pub lie: Option<(Victim, Edit)>,
    /// How bytes go out.
    pub delivery: Delivery,
    /// Bytes of its sockets' receive buffers.
    pub receive_buffer: Option<usize>,
    /// Whether it leaves a connection open that the client has closed.
    pub never_closes: bool,
}

/// Whom it lies to.
#[derive(Clone, Copy, Debug)]
pub enum Victim {
    /// The connection with this number, of a load with this seed.
    Number(u32, u64),
    /// Every connection.
    Everybody,
}

/// How honest bytes go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// As they come.
    #[default]
    AsTheyCome,
    /// Each in a call, and a segment, of its own.
    OneByOne,
    /// Everything at once, so long after the first of it came.
    AfterAPause(Duration),
}

/// One change to the stream of a connection: at an offset, so many bytes of the input are replaced.
pub struct Edit {
    /// Bytes echoed before it.
    pub at: u64,
    /// Bytes of the input that are not echoed.
    pub takes: u64,
    /// Bytes that must have come before it can be done.
    pub needs: u64,
    /// How long after that it is done.
    pub after: Duration,
    /// What is sent in their place.
    pub gives: Gives,
    /// What happens then.
    pub then: Then,
}

/// What is sent in place of the right bytes, made from what the connection sent so far.
pub type Gives = Box<dyn Fn(&[u8], &Others) -> Option<Vec<u8>> + Send>;

/// The first bytes every connection has sent, by its number.
pub type Others = BTreeMap<u32, Vec<u8>>;

/// What follows an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The rest is echoed.
    GoOn,
    /// The connection is closed.
    Close,
    /// It is reset.
    Reset,
    /// It is left alone.
    Silence,
}

/// What it did to a connection that it lied to.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// Bytes received, as far as they matter.
    pub input: Vec<u8>,
    /// Bytes sent, as far as they matter.
    pub output: Vec<u8>,
    /// Whether the lie was told.
    pub told: bool,
}

/// What it saw.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Connections accepted.
    pub accepted: u64,
    /// Bytes received on all connections.
    pub received: u64,
    /// Where it lied.
    pub lies: Vec<Note>,
}

/// A server that runs; stopped when asked, or dropped.
pub struct Liar {
    /// Where it listens.
    pub address: SocketAddr,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<Notes>>,
}

impl Liar {
    /// Starts it on a port of its own.
    pub fn start(manner: Manner) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if let Some(bytes) = manner.receive_buffer {
            listener.set_recv_buffer_size(bytes).expect("a size");
        }
        listener.set_tcp_nodelay(true).expect("an option");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        listener.listen(4096).expect("bound");
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().expect("bound");
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).expect("a descriptor"));
        let server = Server::new(listener, manner, wake.clone());
        let thread = std::thread::spawn(move || server.run());
        Self { address, wake, thread: Some(thread) }
    }

    /// Ends it: what it saw.
    pub fn stop(mut self) -> Notes {
        self.end().expect("stopped once")
    }

    fn end(&mut self) -> Option<Notes> {
        self.wake.write(1).expect("room in a counter");
        self.thread.take().map(|thread| thread.join().expect("the liar has panicked"))
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.thread.is_some() {
            self.end();
        }
    }
}

/// Bytes of a connection's beginning that others may be sent in place of their own.
const KEPT: usize = 32 * 1024;
/// Bytes beyond a lie that are noted.
const BEYOND: u64 = 64;
/// Bytes that wait to be sent before no more is read.
const PENDING_MAX: usize = 512 * 1024;
/// Milliseconds a lie may wait for what it is made of.
const TRIES: u32 = 50;
const LISTENER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// How far a connection has come with its lie.
enum Stage {
    /// Nobody knows yet whether it is lied to.
    Unknown,
    /// It is not, or not any more.
    Honest,
    /// It will be.
    Before,
    /// No more is echoed.
    Mute,
}

struct Connection {
    stream: TcpStream,
    stage: Stage,
    number: Option<u32>,
    /// Bytes received.
    received: u64,
    /// Received and not yet on their way back.
    waiting: Vec<u8>,
    /// Bytes of the input that `waiting` begins behind.
    consumed: u64,
    /// Bytes of the input that are not echoed when they come.
    skip: u64,
    /// To be written.
    pending: Vec<u8>,
    /// Nothing is done before.
    not_before: Option<Instant>,
    note: Option<Note>,
    /// How often its lie could not be told.
    tries: u32,
    finished: bool,
}

struct Server {
    listener: TcpListener,
    manner: Manner,
    wake: Arc<EventFd>,
    epoll: Epoll,
    connections: BTreeMap<u64, Connection>,
    others: Others,
    notes: Notes,
    next: u64,
}

impl Server {
    fn new(listener: TcpListener, manner: Manner, wake: Arc<EventFd>) -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("a descriptor");
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).expect("added");
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE)).expect("added");
        let (connections, others, notes) = Default::default();
        Self { listener, manner, wake, epoll, connections, others, notes, next: 0 }
    }

    fn run(mut self) -> Notes {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let times = self.connections.values().filter_map(|connection| connection.not_before).min();
            let pause = times.map_or(EpollTimeout::NONE, |time| {
                let millis = time.saturating_duration_since(Instant::now()).as_millis() + 1;
                EpollTimeout::try_from(millis).expect("a short time")
            });
            let count = match self.epoll.wait(&mut events, pause) {
                Err(nix::errno::Errno::EINTR) => 0,
                count => count.expect("a wait"),
            };
            for event in &events[..count] {
                match event.data() {
                    WAKE => return self.finish(),
                    LISTENER => self.on_acceptable(),
                    id => self.on_event(id, event.events()),
                }
            }
            let now = Instant::now();
            let due = |(id, connection): (&u64, &Connection)| {
                connection.not_before.is_some_and(|time| time <= now).then_some(*id)
            };
            let due: Vec<u64> = self.connections.iter().filter_map(due).collect();
            due.into_iter().for_each(|id| self.advance(id));
        }
    }

    fn finish(mut self) -> Notes {
        let _ = self.wake.read();
        for connection in std::mem::take(&mut self.connections).into_values() {
            self.notes.lies.extend(connection.note);
        }
        self.notes
    }

    fn on_acceptable(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).expect("a socket");
            let id = self.next;
            self.next += 1;
            self.notes.accepted += 1;
            self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, id)).expect("added");
            let everybody = matches!(self.manner.lie, Some((Victim::Everybody, _)));
            let stage = match &self.manner.lie {
                None => Stage::Honest,
                Some((Victim::Everybody, _)) => Stage::Before,
                Some((Victim::Number(..), _)) => Stage::Unknown,
            };
            let connection = Connection {
                stream,
                stage,
                number: None,
                received: 0,
                waiting: Vec::new(),
                consumed: 0,
                skip: 0,
                pending: Vec::new(),
                not_before: None,
                note: everybody.then(Note::default),
                tries: 0,
                finished: false,
            };
            self.connections.insert(id, connection);
            // A lie may need nothing.
            self.advance(id);
        }
    }

    fn on_event(&mut self, id: u64, events: EpollFlags) {
        let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        if events.intersects(readable) && !self.read(id) {
            return self.leave(id);
        }
        self.advance(id);
    }

    /// Reads once; false when the connection broke.
    fn read(&mut self, id: u64) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return true };
        let mut bytes = [0; 64 * 1024];
        match connection.stream.read(&mut bytes) {
            Ok(0) => {
                connection.finished = true;
                true
            }
            Ok(count) => {
                self.take(id, &bytes[..count]);
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    fn take(&mut self, id: u64, bytes: &[u8]) {
        self.notes.received += bytes.len() as u64;
        let connection = self.connections.get_mut(&id).expect("it has just been read");
        if let (Delivery::AfterAPause(pause), true) = (self.manner.delivery, connection.waiting.is_empty()) {
            connection.not_before = Some(Instant::now() + pause);
        }
        connection.received += bytes.len() as u64;
        if !matches!(connection.stage, Stage::Mute) {
            connection.waiting.extend_from_slice(bytes);
        }
        if let (Stage::Unknown, Some(&word)) = (&connection.stage, connection.waiting.first_chunk())
            && let Some((Victim::Number(victim, seed), _)) = self.manner.lie
        {
            let number = Key::of(seed).origin(u64::from_le_bytes(word)).connection;
            connection.number = Some(number);
            let lied_to = number == victim;
            connection.stage = if lied_to { Stage::Before } else { Stage::Honest };
            connection.note = lied_to.then(Note::default);
        }
        let (input, most) = if let Some(note) = &mut connection.note {
            (&mut note.input, usize::MAX)
        } else if let Some(number) = connection.number {
            (self.others.entry(number).or_default(), KEPT)
        } else {
            return;
        };
        let fresh = if input.is_empty() { &connection.waiting } else { bytes };
        let room = most.saturating_sub(input.len());
        input.extend_from_slice(&fresh[..fresh.len().min(room)]);
    }

    /// Does what can be done now.
    fn advance(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.not_before.is_some_and(|time| time > Instant::now()) {
            return self.interest(id);
        }
        connection.not_before = None;
        let then = match connection.stage {
            Stage::Before => self.lie(id),
            Stage::Honest => {
                let connection = self.connections.get_mut(&id).expect("it is there");
                connection.echo(u64::MAX);
                Then::GoOn
            }
            Stage::Unknown | Stage::Mute => Then::GoOn,
        };
        let connection = self.connections.get_mut(&id).expect("it is there");
        let whole = connection.write(self.manner.delivery);
        match then {
            Then::Reset => {
                let _ = SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO));
                return self.leave(id);
            }
            Then::Close => return self.leave(id),
            Then::GoOn | Then::Silence => {}
        }
        let over = connection.finished && connection.waiting.is_empty() && connection.pending.is_empty();
        if !whole || (over && !self.manner.never_closes) {
            return self.leave(id);
        }
        self.interest(id);
    }

    /// Echoes up to the lie, and tells it when it can be told.
    fn lie(&mut self, id: u64) -> Then {
        let Some((_, edit)) = &self.manner.lie else { return Then::GoOn };
        let connection = self.connections.get_mut(&id).expect("it is there");
        connection.echo(edit.at);
        if connection.consumed < edit.at || connection.received < edit.needs {
            return Then::GoOn;
        }
        let note = connection.note.as_ref().expect("there is one where it lies");
        let Some(gives) = (edit.gives)(&note.input, &self.others) else {
            // What it takes is not there yet, and need never come.
            connection.tries += 1;
            if connection.tries == TRIES {
                connection.stage = Stage::Honest;
            }
            connection.not_before = Some(Instant::now() + Duration::from_millis(1));
            return Then::GoOn;
        };
        if !edit.after.is_zero() && !connection.pending.is_empty() {
            return Then::GoOn;
        }
        if !edit.after.is_zero() {
            // What was owed goes out first, and the lie by itself.
            std::thread::sleep(edit.after);
        }
        connection.give(&gives);
        connection.skip = edit.takes;
        connection.pass_over();
        connection.note.as_mut().expect("checked").told = true;
        connection.stage = if edit.then == Then::GoOn { Stage::Honest } else { Stage::Mute };
        if edit.then == Then::Silence {
            connection.waiting.clear();
        }
        if edit.then == Then::GoOn {
            connection.echo(u64::MAX);
        }
        edit.then
    }

    /// What it waits for.
    fn interest(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let mut flags = EpollFlags::empty();
        let held = connection.pending.len() + connection.waiting.len();
        if !connection.finished && held < PENDING_MAX {
            flags |= EpollFlags::EPOLLIN;
        }
        if !connection.pending.is_empty() {
            flags |= EpollFlags::EPOLLOUT;
        }
        self.epoll.modify(&connection.stream, &mut EpollEvent::new(flags, id)).expect("it was added");
    }

    /// Closes.
    fn leave(&mut self, id: u64) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.notes.lies.extend(connection.note);
    }
}

impl Connection {
    /// Lets go of what is not to be echoed, as far as it has come.
    fn pass_over(&mut self) {
        let count = self.waiting.len().min(self.skip as usize);
        self.waiting.drain(..count);
        self.consumed += count as u64;
        self.skip -= count as u64;
    }

    /// Sends back what came, up to this offset of the input.
    fn echo(&mut self, limit: u64) {
        self.pass_over();
        let count =
            self.waiting.len().min(limit.saturating_sub(self.consumed).try_into().unwrap_or(usize::MAX));
        let bytes: Vec<u8> = self.waiting.drain(..count).collect();
        self.consumed += count as u64;
        self.give(&bytes);
    }

    fn give(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        if let Some(note) = &mut self.note
            && (!note.told || (note.output.len() as u64) < self.consumed + BEYOND)
        {
            note.output.extend_from_slice(bytes);
        }
    }

    /// Writes what the socket takes; false when the connection broke.
    fn write(&mut self, delivery: Delivery) -> bool {
        while !self.pending.is_empty() {
            let count = if delivery == Delivery::OneByOne { 1 } else { self.pending.len() };
            match self.stream.write(&self.pending[..count]) {
                Ok(count) => _ = self.pending.drain(..count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}
