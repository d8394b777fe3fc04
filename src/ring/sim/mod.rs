//! A fake kernel: it obeys the rules of [`Ring`], draws among everything the real kernel may legally
//! answer, and holds the caller against the rules in its turn. All of it follows from a seed.
//!
//! Sockets are byte streams whose other ends follow scripts; buffers, descriptors and both queues are
//! as small as the set-up says; the clock is virtual and moves only in an enter. A rule that was
//! broken is written down ([`Facts::violations`]), and every enter from then on fails.
//!
//! Absent on purpose: real sockets, real time, the loss of completions (EBADR), which no caller
//! survives. It knows nothing of connections as the loop sees them: it judges from outside.

mod accepting;
mod arrivals;
mod buffers;
mod calls;
mod completions;
mod dialing;
mod handing;
mod judged;
mod kernel;
mod lent;
mod network;
mod odds;
mod operations;
mod outcome;
mod owned;
mod peers;
mod sending;
mod servers;
mod waiting;

pub use arrivals::Neighbour;
pub use buffers::Buffers;
pub use dialing::Client;
pub use judged::Judged;
pub use outcome::{Coverage, Outcome, Side};
pub use servers::{Lie, Plant, Scene, Told};

use super::{Completion, Entered, Listening, Memory, Name, Operation, Ring, Socket, Span, Token};
use kernel::{Kernel, Planned};
use nix::errno::Errno;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// What a fake kernel is made with. Times are microseconds.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Everything drawn follows from it.
    pub seed: u64,
    /// The caller's memory; buffer `b` begins `b` strides from its start.
    pub memory: Memory,
    /// Buffers.
    pub buffers: u16,
    /// Bytes in each.
    pub buffer_size: u32,
    /// Whether they are filled bit by bit.
    pub incremental: bool,
    /// Whether they are provided by requests, which are taken with the operations.
    pub classic: bool,
    /// Whether one receive may fill several of them.
    pub bundle: bool,
    /// The most bytes one receive takes, where that is not the buffer's size.
    pub receive_most: Option<u32>,
    /// Entries of the submission queue, at least 1.
    pub sq: usize,
    /// Entries of the completion queue, at least 1.
    pub cq: usize,
    /// Descriptors, or slots where sockets are direct.
    pub descriptors: u32,
    /// Whether sockets are named by slots.
    pub direct: bool,
    /// Whether one accept brings many sockets.
    pub accept_multishot: bool,
    /// Whether one receive brings many buffers.
    pub receive_multishot: bool,
    /// Whether the limit of a multishot receive is obeyed.
    pub obeys_limit: bool,
    /// Whether a send that does not wait has no completion when all of it is taken.
    pub skips_sent: bool,
    /// Whether a send may go on reading what it took.
    pub keeps_sent: bool,
    /// How many spans one send may take together; 0 where it takes one.
    pub lends: usize,
    /// How many completions an enter waits for first, and how long, microseconds.
    pub minimum_wait: Option<(usize, u64)>,
    /// Whether the ring only notifies: what it is asked is then held against its own rules, and what a loop
    /// asks and hears by [`Judged`].
    pub notifies_only: bool,
    /// Whether what was pushed may be taken later than in the next enter.
    pub thread_submits: bool,
    /// Whether the bytes that have arrived at a descriptor can be asked for outside the ring.
    pub arrived_known: bool,
    /// Whether they can be asked for through the ring.
    pub counts_arrived: bool,
    /// Whether a receive wants a buffer when it is armed, not only when bytes come.
    pub buffers_at_arming: bool,
    /// Listeners.
    pub listeners: usize,
    /// Peers.
    pub peers: usize,
    /// After which the loop may close a silent connection.
    pub idle_timeout: Option<u64>,
    /// After which it may close one that takes nothing.
    pub write_timeout: Option<u64>,
    /// How long after its FIN it may close one that goes on sending.
    pub linger: u64,
    /// How long after the stop it may close whoever is left.
    pub drain_timeout: u64,
    /// Whether it may close one that owes bytes for want of spill space.
    pub spill_bounded: bool,
    /// Enters after which it is taken to be stuck.
    pub enters_max: u64,
    /// Told everything that is asked and answered, a line each.
    pub trace: Option<fn(&str)>,
}

/// What happened, as seen by the kernel.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Rules the caller broke.
    pub violations: Vec<String>,
    /// Sockets handed to the caller.
    pub accepted: u64,
    /// Sockets it closed.
    pub closed: u64,
    /// Sockets that became another worker's, as the caller knows.
    pub handed: u64,
    /// Sockets another worker was given and has not closed.
    pub elsewhere: u64,
    /// Connections the kernel dropped before they were accepted.
    pub dropped: u64,
    /// Bytes handed to the caller.
    pub received: u64,
    /// Bytes taken from the caller.
    pub sent: u64,
    /// Connections closed after the peer had finished and been paid in full.
    pub complete: u64,
    /// Connections closed before anything was received from them.
    pub untouched: u64,
    /// Connections closed with no other excuse than that spill space may have run out.
    pub excused_by_spill: u64,
    /// Completions that found no place in the queue.
    pub overflows: u64,
    /// Enters from the end of the faults until everything had come to rest.
    pub recovery: u64,
    /// What was outstanding at the end of the faults: operations, peers and chunks of bytes.
    pub outstanding: u64,
    /// What stood where when all peers had come to their end, all connections were closed, and the
    /// caller went to sleep.
    pub settled: Option<Standing>,
}

/// What stands where, between two steps of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Operations pushed whose last completion was not taken.
    pub outstanding: u64,
    /// Buffers that are the caller's.
    pub lent: usize,
    /// Buffers the kernel may fill.
    pub free: usize,
    /// Sockets that are open.
    pub open: usize,
    /// Whether an accept is out on every listener that is open.
    pub accepting: bool,
}

/// One connection, as far as the caller has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Bytes handed to the caller.
    pub received: u64,
    /// Bytes taken from it.
    pub sent: u64,
    /// Receives asked for so far.
    pub receives: u64,
    /// Whether a receive is out.
    pub receiving: bool,
    /// Whether a send is out.
    pub sending: bool,
}

/// What happens from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum External {
    /// Nothing the kernel sees.
    Nothing,
    /// The worker's wake-up.
    Wake,
    /// Another worker closed the connection of this number, which it had been given; wakes the worker.
    Left(usize),
    /// The faults end: no more errors, everybody reads, says the rest and finishes.
    Heal,
    /// The worker that accepts for all sends nobody any more; wakes this one.
    NobodyComes,
    /// The server is told to stop; wakes the worker.
    Stop,
    /// The server is told to end at once; wakes the worker.
    Cut,
}

/// The fake kernel. Clones are handles to the same one.
#[derive(Clone)]
pub struct Sim {
    kernel: Rc<RefCell<Kernel>>,
}

impl Sim {
    /// A kernel that has just started, and its peers.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        assert!(setup.sq >= 1 && setup.cq >= 1 && setup.listeners >= 1);
        Self { kernel: Rc::new(RefCell::new(Kernel::new(setup))) }
    }

    /// Lets `action` happen at a time of the virtual clock, microseconds. It must not touch the ring.
    pub fn at(&self, time: u64, action: impl FnOnce() -> External + 'static) {
        let planned = Planned { at: Some(time), action: Box::new(action) };
        self.kernel.borrow_mut().planned.push(planned);
    }

    /// Lets `action` happen when nothing else will, after what was said before.
    pub fn when_quiet(&self, action: impl FnOnce() -> External + 'static) {
        let planned = Planned { at: None, action: Box::new(action) };
        self.kernel.borrow_mut().planned.push(planned);
    }

    /// Sockets may be handed on; `leaves` is called when another worker closes one: the index of the worker
    /// that had it.
    pub fn hands_on(&self, error: u32, leaves: impl Fn(usize) + 'static) {
        let mut kernel = self.kernel.borrow_mut();
        kernel.odds.hand_error = error;
        kernel.elsewhere = Some(std::rc::Rc::new(leaves));
    }

    /// What happened so far.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.kernel.borrow().facts.clone()
    }

    /// Whether the caller broke a rule.
    #[must_use]
    pub fn failed(&self) -> bool {
        !self.kernel.borrow().facts.violations.is_empty()
    }

    /// What was drawn so far.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.kernel.borrow().coverage.clone()
    }

    /// What stands where.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.kernel.borrow().standing()
    }

    /// Says whether somebody waits for a buffer: then the caller must not sleep while one is free.
    pub fn somebody_waits(&self, waits: bool) {
        self.kernel.borrow_mut().somebody_waits = waits;
    }

    /// The buffer that a byte of the memory lies in.
    #[must_use]
    pub fn buffer_at(&self, offset: u64) -> Option<u16> {
        let within = self.kernel.borrow().buffers.within(Span { offset, length: 1 });
        within.last().map(|buffer| buffer as u16)
    }

    /// What the kernel knows of a socket that is open.
    #[must_use]
    pub fn view(&self, socket: Socket) -> Option<View> {
        let kernel = self.kernel.borrow();
        let connection = &kernel.network.connections[kernel.network.find(socket.0)?];
        Some(View {
            received: connection.read_taken,
            sent: connection.echoed_taken,
            receives: connection.receives,
            receiving: connection.receiving > 0,
            sending: connection.sending > 0,
        })
    }
}

/// The socket in a slot, for a ring that is a test's own.
#[must_use]
pub const fn slot(number: u32) -> Socket {
    Socket(Name::Slot(number))
}

impl Ring for Sim {
    fn push(&mut self, operation: Operation, token: Token) {
        self.kernel.borrow_mut().push(operation, token);
    }

    fn enter(&mut self, wait_for: u32, until: Option<Duration>) -> Entered {
        self.kernel.borrow_mut().enter(wait_for, until.map(|until| until.as_nanos().div_ceil(1000) as u64))
    }

    fn next_completion(&mut self) -> Option<Completion> {
        self.kernel.borrow_mut().take()
    }

    fn provide(&mut self, buffer: u16) {
        self.kernel.borrow_mut().provide(buffer);
    }

    fn publish(&mut self) {
        self.kernel.borrow_mut().publish();
    }

    fn now(&mut self) -> Duration {
        Duration::from_micros(self.kernel.borrow().now)
    }

    fn obeys_limit(&self) -> bool {
        let kernel = self.kernel.borrow();
        kernel.setup.obeys_limit || !kernel.setup.receive_multishot
    }

    fn skips_sent(&self) -> bool {
        self.kernel.borrow().setup.skips_sent
    }

    fn keeps_sent(&self) -> bool {
        self.kernel.borrow().setup.keeps_sent
    }

    fn lends(&self) -> usize {
        self.kernel.borrow().setup.lends
    }

    fn lend(&mut self, group: u32, span: Span) {
        self.kernel.borrow_mut().lend(group, span);
    }

    fn take_back(&mut self, group: u32) {
        self.kernel.borrow_mut().take_back(group);
    }

    fn pushed(&self) -> u64 {
        self.kernel.borrow().pushed
    }

    fn answered(&mut self) -> u64 {
        self.kernel.borrow_mut().answered()
    }

    fn overflows(&self) -> u64 {
        self.kernel.borrow().facts.overflows
    }

    fn enters(&self) -> u64 {
        self.kernel.borrow().enters
    }
}

impl Listening for Sim {
    fn accepted(&self, result: u32) -> Socket {
        let direct = self.kernel.borrow().setup.direct;
        Socket(if direct { Name::Slot(result) } else { Name::Descriptor(result as i32) })
    }

    fn accept_queued(&mut self, listener: usize) -> Result<Socket, Errno> {
        self.kernel.borrow_mut().accept_queued(listener).map(Socket)
    }

    fn close_listener(&mut self, listener: usize) {
        self.kernel.borrow_mut().close_listener(listener);
    }

    fn arrived(&mut self, socket: Socket) -> Option<u32> {
        let kernel = self.kernel.borrow();
        let number = kernel.network.find(socket.0)?;
        let unread = kernel.network.connections[number].unread();
        (kernel.setup.arrived_known && matches!(socket.0, Name::Descriptor(_))).then_some(unread as u32)
    }

    fn counts_arrived(&self) -> bool {
        self.kernel.borrow().setup.counts_arrived
    }

    fn wake_others(&mut self) {}
}
