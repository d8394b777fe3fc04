//! The way back: how completions are posted, overflow, and are taken, and what becomes the caller's
//! with each of them.

use super::super::{Completion, Operation};
use super::buffers::Picked;
use super::kernel::Kernel;
use super::network::Dialed;
use super::outcome::Outcome;
use nix::errno::Errno;

/// A completion on its way, with what the kernel remembers of its operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posted {
    pub(super) completion: Completion,
    pub(super) operation: Operation,
    pub(super) connection: Option<usize>,
    /// It says that a send reads its bytes no more.
    pub(super) notice: bool,
}

impl Kernel {
    /// Whether a completion would not fit into the queue.
    pub(super) fn queue_is_full(&self) -> bool {
        self.completions.len() >= self.setup.cq || !self.overflow.is_empty()
    }

    /// Posts a completion of `op`. Where there is no place, one with `more` must not come: an
    /// operation without a place for its result ends with it. Says whether the operation goes on.
    /// Posts that a send reads its bytes no more.
    pub(super) fn post_notice(&mut self, id: u64) {
        self.post(id, 0, false, None);
        let posted = self.overflow.back_mut().or(self.completions.back_mut()).expect("just posted");
        posted.notice = true;
    }

    pub(super) fn post(&mut self, id: u64, result: i32, more: bool, picked: Option<Picked>) -> bool {
        let Some(index) = self.position(id) else { return false };
        let op = self.flying[index];
        let full = self.queue_is_full();
        // A send has its notice in any case.
        let more = more && (!full || matches!(op.operation, Operation::SendKept { .. }));
        let (buffer, keeps_buffer) =
            (picked.map(|(buffer, _)| buffer), picked.is_some_and(|(_, keeps)| keeps));
        let completion = Completion { token: op.token, result, more, buffer, keeps_buffer };
        let skipped = match op.operation {
            Operation::Send { span, .. } => self.setup.skips_sent && result == span.length as i32,
            Operation::SendLent { group, .. } => {
                self.setup.skips_sent && !more && result > 0 && self.groups[&group].is_taken()
            }
            _ => false,
        };
        let posted = Posted { completion, operation: op.operation, connection: op.connection, notice: false };
        if skipped {
            let lent = matches!(op.operation, Operation::SendLent { .. });
            self.coverage.note(if lent { Outcome::LentSkipped } else { Outcome::SendSkipped });
            self.skipped.push(posted);
        } else if full {
            self.coverage.note(Outcome::QueueOverflowed);
            self.facts.overflows += 1;
            self.overflow.push_back(posted);
        } else {
            self.completions.push_back(posted);
        }
        if !more {
            self.flying.swap_remove(index);
        }
        more
    }

    pub(super) fn flush(&mut self) {
        while self.completions.len() < self.setup.cq {
            let Some(posted) = self.overflow.pop_front() else { return };
            self.coverage.note(Outcome::QueueFlushed);
            self.completions.push_back(posted);
        }
    }

    /// The caller takes a completion.
    pub(super) fn take(&mut self) -> Option<Completion> {
        self.call();
        let posted = self.completions.pop_front()?;
        if self.setup.notifies_only {
            self.hear_watch(&posted);
            self.trace(|| format!("take {:x?}", posted.completion));
            return Some(posted.completion);
        }
        Some(self.hand_over(&posted))
    }

    /// Operations of which it is known whether they were answered at once; those that were, without a
    /// completion, are over from here on.
    pub(super) fn answered(&mut self) -> u64 {
        if self.completions.is_empty() && self.overflow.is_empty() {
            self.answered = self.taken;
            for posted in std::mem::take(&mut self.skipped) {
                self.hand_over(&posted);
            }
        }
        self.answered
    }

    /// What a completion carries is the caller's from here on.
    pub(super) fn hand_over(&mut self, posted: &Posted) -> Completion {
        let Posted { completion, operation, connection, notice } = *posted;
        if let Some(buffer) = completion.buffer {
            self.buffers.taken((buffer, completion.keeps_buffer), completion.result.max(0) as u32);
        }
        if connection.is_none() && matches!(operation, Operation::Hand { .. }) {
            // From another worker: nothing was asked for.
            self.facts.accepted += 1;
            return completion;
        }
        self.outstanding -= u64::from(!completion.more);
        self.trace(|| format!("take {completion:x?} for connection {connection:?}"));
        let Some(number) = connection else {
            if matches!(operation, Operation::Accept { .. }) && completion.result >= 0 {
                self.facts.accepted += 1;
            }
            return completion;
        };
        let left = match operation {
            Operation::SendLent { group, .. } => {
                self.told_of_lent(number, group, completion.result.max(0) as u32, completion.more)
            }
            _ => false,
        };
        let connection = &mut self.network.connections[number];
        connection.in_flight -= u32::from(!completion.more);
        let outcome = completion.outcome();
        let failed = outcome.is_err_and(|errno| {
            !matches!(errno, Errno::EAGAIN | Errno::ENOBUFS | Errno::ECANCELED | Errno::EINTR)
        });
        if let Operation::ReceiveInto { span, .. } = operation {
            self.buffers.give_back(span);
        }
        match operation {
            operation if operation.receives() => {
                connection.receiving -= u32::from(!completion.more);
                connection.ever_received = true;
                connection.error_taken |= failed;
                match outcome {
                    Ok(0) => connection.end_taken = true,
                    Ok(bytes) => {
                        if !connection.receive_cancelled {
                            connection.active_at = self.now;
                        }
                        connection.read_taken += u64::from(bytes);
                        self.facts.received += u64::from(bytes);
                    }
                    Err(_) => {}
                }
            }
            Operation::SendKept { span, .. } if notice => {
                connection.kept -= 1;
                let place = self.sending.iter().position(|&one| one == (number, span));
                self.sending.swap_remove(place.expect("it is being read"));
            }
            Operation::Send { span, .. } | Operation::SendKept { span, .. } => {
                connection.sending -= 1;
                connection.full = outcome == Err(Errno::EAGAIN);
                connection.was_blocked |=
                    outcome == Err(Errno::EAGAIN) || outcome.is_ok_and(|bytes| bytes < span.length);
                if completion.more {
                    connection.kept += 1;
                } else {
                    let place = self.sending.iter().position(|&one| one == (number, span));
                    self.sending.swap_remove(place.expect("it is being sent"));
                }
                connection.error_taken |= failed;
                if let Ok(bytes @ 1..) = outcome {
                    connection.progress_at = self.now;
                    connection.echoed_taken += u64::from(bytes);
                    self.facts.sent += u64::from(bytes);
                }
            }
            Operation::SendLent { .. } => {
                connection.sending -= u32::from(!completion.more);
                connection.full = outcome == Err(Errno::EAGAIN);
                connection.was_blocked |= left;
                connection.error_taken |= failed;
                if let Ok(bytes @ 1..) = outcome {
                    connection.progress_at = self.now;
                    connection.echoed_taken += u64::from(bytes);
                    self.facts.sent += u64::from(bytes);
                }
            }
            Operation::AwaitRoom { .. } => connection.full = false,
            Operation::Shutdown { .. } => connection.error_taken |= failed,
            Operation::Hand { .. } if completion.result >= 0 => self.facts.handed += 1,
            Operation::Connect { .. } if completion.result == 0 => connection.dialed = Dialed::Known,
            _ => {}
        }
        completion
    }
}
