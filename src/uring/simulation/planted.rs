//! Bugs planted between the loop and the fake kernel, each of a kind that event loops have had. Every
//! one must be found within the seeds that `cargo test` runs: a simulation that finds nothing where
//! there is something proves nothing where it finds nothing. The loop itself has no hook for this.

use super::front::Front;
use super::{Eyes, SEEDS, run_seed};
use crate::ring::{Completion, Entered, Listening, Operation, Ring, Socket, Span, Token};
use nix::errno::Errno;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// Now and then a receive that is armed again never reaches the kernel.
    RearmSwallowed,
    /// A buffer is given back a second time.
    BufferPublishedTwice,
    /// A buffer is given back while its bytes are being sent.
    BufferPublishedEarly,
    /// The last completion of a multishot receive is taken for an end without bytes.
    TerminalDataHidden,
    /// The last completion of a multishot accept is taken for an error without a socket.
    TerminalSocketHidden,
    /// What follows a short send starts a byte too early.
    SendOffsetShifted,
    /// A completion is taken for one of the slot's next connection.
    GenerationRewritten,
    /// An empty pool is noticed, and whom it met is forgotten.
    StarvedForgotten,
    /// A cancel's answer is taken for its target's, and the other way about.
    CancelSwapped,
    /// What was cancelled is taken for done before it is.
    ClosedEarly,
    /// An interrupted send is taken for a whole one.
    InterruptionTakenForSent,
    /// The end of a stream is lost where it comes with a buffer.
    EndWithBufferLost,
    /// A wake-up that ends the watch is taken for one that does not.
    WakeupWatchLost,
    /// An accept that was ended by an error is never armed again.
    AcceptForgotten,
    /// Of what has arrived by the stop the last byte is not counted.
    CountedShort,
    /// A send without a completion is taken for whole before the kernel has it.
    AnsweredEarly,
    /// A buffer that the kernel still reads is taken for one that it is done with.
    NoticeForgotten,
    /// A buffer is given back whose bytes a short send of several did not reach.
    LentReleasedUnsent,
    /// What a send of several took is counted a byte too long where it ended short.
    LentCountedLong,
    /// What a send of several left is sent again with the next.
    LentNotTakenBack,
    /// A socket that another worker sent is not noticed now and then.
    ArrivalUnnoticed,
    /// No bug of ours: the kernel says that it had to drop completions.
    CompletionsLost,
}

const CANCELLED: i32 = -(Errno::ECANCELED as i32);
const INTERRUPTED: i32 = -(Errno::EINTR as i32);
const NO_BUFFERS: i32 = -(Errno::ENOBUFS as i32);

/// What was lent to a group for its last send.
#[derive(Default)]
struct Lent {
    spans: Vec<Span>,
    /// Bytes of them that were told of.
    told: u32,
    /// The send was pushed: what is lent now is for the next one.
    pushed: bool,
}

/// A ring with a bug in it.
struct Planted {
    ring: Front,
    bug: Bug,
    /// What was asked for last, by token.
    asked: HashMap<u64, Operation>,
    /// Cancels that were asked for, by token of the target.
    cancels: HashMap<u64, u64>,
    /// Completions made up.
    forged: VecDeque<Completion>,
    /// Tokens whose next completion or operation is swallowed.
    swallowed: HashSet<u64>,
    /// By group.
    lent: HashMap<u32, Lent>,
    count: u64,
}

impl Planted {
    fn new(ring: Front, bug: Bug) -> Self {
        Self {
            ring,
            bug,
            asked: HashMap::new(),
            cancels: HashMap::new(),
            forged: VecDeque::new(),
            swallowed: HashSet::new(),
            lent: HashMap::new(),
            count: 0,
        }
    }

    /// True once in `every` times.
    fn now_and_then(&mut self, every: u64) -> bool {
        self.count += 1;
        self.count.is_multiple_of(every)
    }

    /// The completion as the bug has it; `None` when it swallows it.
    fn distort(&mut self, mut done: Completion) -> Option<Completion> {
        match self.asked.get(&done.token.0).copied() {
            Some(Operation::Receive { .. }) => return self.distort_receive(done),
            Some(Operation::Send { span, .. }) => match self.bug {
                Bug::SendOffsetShifted if done.result > 1 && (done.result as u32) < span.length => {
                    done.result -= 1;
                }
                Bug::InterruptionTakenForSent if done.result == INTERRUPTED => {
                    done.result = span.length as i32;
                }
                _ => {}
            },
            Some(Operation::SendLent { group, .. }) => return Some(self.distort_lent(group, done)),
            Some(Operation::SendKept { .. }) if self.bug == Bug::NoticeForgotten => done.more = false,
            Some(Operation::Accept { .. }) if !done.more => match self.bug {
                Bug::TerminalSocketHidden if done.result >= 0 => done.result = CANCELLED,
                Bug::AcceptForgotten if done.result < 0 => done.more = true,
                _ => {}
            },
            Some(Operation::CountArrived { .. }) if self.bug == Bug::CountedShort && done.result > 0 => {
                done.result -= 1;
            }
            Some(Operation::Wakeups) if self.bug == Bug::WakeupWatchLost => done.more = true,
            None if self.bug == Bug::ArrivalUnnoticed && self.now_and_then(3) => return None,
            _ => {}
        }
        Some(done)
    }

    fn distort_lent(&mut self, group: u32, mut done: Completion) -> Completion {
        let lent = self.lent.entry(group).or_default();
        lent.told += done.result.max(0) as u32;
        let total: u32 = lent.spans.iter().map(|span| span.length).sum();
        let short = lent.told < total && done.result > 0 && !done.more;
        let last = lent.spans.last().copied();
        match self.bug {
            Bug::LentCountedLong if short => done.result += 1,
            Bug::LentReleasedUnsent if short => {
                if let Some(buffer) = last.and_then(|span| self.ring.buffer_at(span.offset)) {
                    self.ring.provide(buffer);
                    self.ring.publish();
                }
            }
            _ => {}
        }
        done
    }

    fn distort_receive(&mut self, mut done: Completion) -> Option<Completion> {
        match self.bug {
            Bug::TerminalDataHidden if !done.more && done.result > 0 => done.result = CANCELLED,
            Bug::EndWithBufferLost if done.result == 0 && done.buffer.is_some() => done.result = CANCELLED,
            Bug::GenerationRewritten => done.token.0 += u64::from(self.now_and_then(50)),
            Bug::StarvedForgotten if done.result == NO_BUFFERS => {
                self.swallowed.insert(done.token.0);
            }
            Bug::ClosedEarly if !done.more && self.swallowed.remove(&done.token.0) => return None,
            Bug::BufferPublishedEarly => {
                if let Some(buffer) = done.buffer.filter(|_| self.now_and_then(50)) {
                    self.ring.provide(buffer);
                    self.ring.publish();
                }
            }
            _ => {}
        }
        Some(done)
    }

    /// Gives a cancel's answer its target's token, and the other way about.
    fn swap(&mut self, mut done: Completion) -> Completion {
        if let Some(Operation::Cancel { target }) = self.asked.get(&done.token.0) {
            done.token = *target;
        } else if let Some(cancel) = self.cancels.get(&done.token.0).filter(|_| !done.more) {
            done.token = Token(*cancel);
        }
        done
    }
}

impl Ring for Planted {
    fn push(&mut self, operation: Operation, token: Token) {
        let again = self.asked.insert(token.0, operation).is_some();
        match (self.bug, operation) {
            (Bug::RearmSwallowed, Operation::Receive { .. }) if again && self.now_and_then(20) => return,
            (Bug::StarvedForgotten, Operation::Receive { .. }) if self.swallowed.remove(&token.0) => return,
            (_, Operation::SendLent { group, .. }) => self.lent.entry(group).or_default().pushed = true,
            (Bug::CancelSwapped, Operation::Cancel { target }) => {
                self.cancels.insert(target.0, token.0);
            }
            (Bug::ClosedEarly, Operation::Cancel { target })
                if matches!(self.asked.get(&target.0), Some(Operation::Receive { .. })) =>
            {
                let over = Completion {
                    token: target,
                    result: CANCELLED,
                    more: false,
                    buffer: None,
                    keeps_buffer: false,
                };
                self.forged.push_back(over);
                self.swallowed.insert(target.0);
            }
            _ => {}
        }
        self.ring.push(operation, token);
    }

    fn enter(&mut self, wait_for: u32, until: Option<Duration>) -> Entered {
        if self.bug == Bug::CompletionsLost && self.now_and_then(20) {
            return Entered::CompletionsLost;
        }
        let wait_for = if self.forged.is_empty() { wait_for } else { 0 };
        self.ring.enter(wait_for, until)
    }

    fn next_completion(&mut self) -> Option<Completion> {
        if let Some(forged) = self.forged.pop_front() {
            return Some(forged);
        }
        loop {
            let done = self.ring.next_completion()?;
            if self.bug == Bug::CancelSwapped {
                return Some(self.swap(done));
            }
            if let Some(done) = self.distort(done) {
                return Some(done);
            }
        }
    }

    fn provide(&mut self, buffer: u16) {
        self.ring.provide(buffer);
        if self.bug == Bug::BufferPublishedTwice && self.now_and_then(30) {
            self.ring.provide(buffer);
        }
    }

    fn publish(&mut self) {
        self.ring.publish();
    }

    fn found_no_buffer(&mut self) {
        self.ring.found_no_buffer();
    }

    fn now(&mut self) -> Duration {
        self.ring.now()
    }

    fn skips_sent(&self) -> bool {
        self.ring.skips_sent()
    }

    fn keeps_sent(&self) -> bool {
        self.ring.keeps_sent()
    }

    fn lends(&self) -> usize {
        self.ring.lends()
    }

    fn lend(&mut self, group: u32, span: Span) {
        let lent = self.lent.entry(group).or_default();
        if lent.pushed {
            *lent = Lent::default();
        }
        lent.spans.push(span);
        self.ring.lend(group, span);
    }

    fn take_back(&mut self, group: u32) {
        if self.bug != Bug::LentNotTakenBack {
            self.ring.take_back(group);
        }
    }

    fn pushed(&self) -> u64 {
        self.ring.pushed()
    }

    fn answered(&mut self) -> u64 {
        if self.bug == Bug::AnsweredEarly { self.ring.pushed() } else { self.ring.answered() }
    }

    fn obeys_limit(&self) -> bool {
        self.ring.obeys_limit()
    }

    fn overflows(&self) -> u64 {
        self.ring.overflows()
    }

    fn enters(&self) -> u64 {
        self.ring.enters()
    }
}

impl Listening for Planted {
    fn accepted(&self, result: u32) -> Socket {
        self.ring.accepted(result)
    }

    fn accept_queued(&mut self, listener: usize) -> Result<Socket, Errno> {
        self.ring.accept_queued(listener)
    }

    fn close_listener(&mut self, listener: usize) {
        self.ring.close_listener(listener);
    }

    fn arrived(&mut self, socket: Socket) -> Option<u32> {
        self.ring.arrived(socket)
    }

    fn counts_arrived(&self) -> bool {
        self.ring.counts_arrived()
    }

    fn wake_others(&mut self) {
        self.ring.wake_others();
    }
}

/// The first seed that finds the bug by a rule whose text contains `rule`, and what it says.
#[track_caller]
fn found(bug: Bug, eyes: Eyes, rule: &str) {
    let fault = |seed| run_seed(seed, eyes, |front| Planted::new(front, bug)).fault;
    let first = (0..SEEDS).filter_map(fault).find(|fault| fault.contains(rule));
    let first = first.unwrap_or_else(|| panic!("{SEEDS} seeds do not find {bug:?} by {rule:?}"));
    println!("{bug:?}, {eyes:?}: {}", first.lines().next().unwrap_or_default());
}

/// One test for each bug: found by comparing accounts, and also by the kernel's eyes alone.
macro_rules! is_found {
    ($($name:ident: $bug:ident, $rule:literal;)*) => {
        $(#[test]
        fn $name() {
            found(Bug::$bug, Eyes::Both, "");
            found(Bug::$bug, Eyes::Kernel, $rule);
        })*
    };
}

is_found! {
    a_swallowed_rearm_is_found: RearmSwallowed, "I16";
    a_buffer_published_twice_is_found: BufferPublishedTwice, "I9";
    a_buffer_published_while_it_is_sent_from_is_found: BufferPublishedEarly, "I8";
    hidden_terminal_data_is_found: TerminalDataHidden, "I1";
    a_hidden_terminal_socket_is_found: TerminalSocketHidden, "I16";
    a_shifted_send_offset_is_found: SendOffsetShifted, "I1";
    a_rewritten_generation_is_found: GenerationRewritten, "I1";
    a_starved_connection_forgotten_is_found: StarvedForgotten, "I16";
    a_cancel_swapped_with_its_target_is_found: CancelSwapped, "";
    a_close_before_nothing_is_in_flight_is_found: ClosedEarly, "I6";
    an_interruption_taken_for_a_send_is_found: InterruptionTakenForSent, "I1";
    a_lost_end_of_stream_is_found: EndWithBufferLost, "I16";
    a_lost_watch_for_wakeups_is_found: WakeupWatchLost, "I16";
    a_send_taken_for_whole_too_early_is_found: AnsweredEarly, "I";
    an_accept_never_armed_again_is_found: AcceptForgotten, "I16";
    a_buffer_given_back_while_the_kernel_reads_it_is_found: NoticeForgotten, "I8";
    a_buffer_given_back_that_a_short_send_did_not_reach_is_found: LentReleasedUnsent, "I8";
    a_short_send_of_several_counted_too_long_is_found: LentCountedLong, "I1";
    what_a_short_send_left_and_is_sent_again_is_found: LentNotTakenBack, "an earlier send left";
    a_socket_from_another_worker_that_nobody_noticed_is_found: ArrivalUnnoticed, "I16";
    a_count_that_is_short_is_found: CountedShort, "the FIN goes out before what had arrived was echoed";
}

#[test]
fn lost_completions_end_the_loop_with_a_sentence() {
    let fault = run_seed(1, Eyes::Both, |front| Planted::new(front, Bug::CompletionsLost)).fault;
    assert!(fault.is_some_and(|fault| fault.contains("the loop gave up: the kernel lost completions")));
}
