//! From the workers' numbers to the lines of the account.

use crate::counters::{Counters, Group};
use crate::result::{Account, Named, Share, VERSION};
use std::time::Duration;

/// The sum over all workers. Where one worker closes what another accepted (`shared`), a worker's own
/// gauge of open connections means nothing and is left out.
pub(super) fn account(workers: &[Counters], shared: bool, uptime: Duration, lines_dropped: u64) -> Account {
    let mut account = Account {
        version: VERSION,
        uptime_us: uptime.as_micros() as u64,
        counters: Named::default(),
        closed: Named::default(),
        refused: Named::default(),
        gauges: Named::default(),
        workers: Vec::new(),
        lines_dropped,
    };
    for worker in workers {
        for (name, value) in worker.totals().into_iter().chain(worker.own.iter()) {
            account.counters.add(name, value);
        }
        for (name, value) in worker.gauges() {
            account.gauges.add(name, value);
        }
        add_group(&mut account.closed, &worker.closed);
        add_group(&mut account.refused, &worker.refused);
        let open = (!shared).then(|| worker.open.get());
        account.workers.push(Share { accepted: worker.accepted.get(), open });
    }
    account
}

fn add_group<const MOST: usize>(sums: &mut Named<u64>, group: &Group<MOST>) {
    group.iter().for_each(|(name, value)| sums.add(name, value));
}

/// One line for a person: what is not zero.
pub(super) fn text(account: &Account) -> String {
    let uptime = Duration::from_micros(account.uptime_us).as_secs_f64();
    let listed = |named: &Named<u64>| -> String {
        let some = named.0.iter().filter(|(_, value)| *value != 0);
        some.map(|(name, value)| format!(" {name}={value}")).collect()
    };
    let open = account.gauges.get("open").copied().unwrap_or(0);
    let bytes = account.counters.get("bytes_sent").copied().unwrap_or(0);
    format!(
        "{uptime:.1}s: {open} open, {bytes} bytes echoed;{}{}{}{}",
        listed(&account.counters),
        listed(&account.closed),
        listed(&account.refused),
        listed(&account.gauges)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_the_sum_over_workers_with_the_backends_own_names() {
        let workers: Vec<Counters> =
            (0..2).map(|_| Counters::new(&["peer_finished"], &["refused_full"], &["enters"])).collect();
        for worker in &workers {
            worker.accepted.add(3);
            worker.own.at(0).add(5);
            worker.closed.at(0).add(1);
        }
        workers[0].open.add(2);
        workers[1].open.subtract(1);
        let account = account(&workers, false, Duration::from_secs(1), 4);
        assert_eq!(account.counters.get("accepted"), Some(&6));
        assert_eq!(account.counters.get("enters"), Some(&10));
        assert_eq!(account.closed.get("peer_finished"), Some(&2));
        assert_eq!(account.gauges.get("open"), Some(&1));
        assert_eq!(account.workers[0], Share { accepted: 3, open: Some(2) });
        assert!(
            text(&account)
                .starts_with("1.0s: 1 open, 0 bytes echoed; accepted=6 enters=10 peer_finished=2 open=1")
        );
    }

    #[test]
    fn a_shared_instance_has_no_gauge_of_each_worker_that_could_fall_below_zero() {
        let workers: Vec<Counters> = (0..2).map(|_| Counters::new(&[], &[], &[])).collect();
        workers[0].open.add(2);
        workers[1].open.subtract(1);
        let account = account(&workers, true, Duration::from_secs(1), 0);
        assert_eq!(account.gauges.get("open"), Some(&1));
        assert!(!serde_json::to_string(&account.workers).unwrap().contains("open"));
    }
}
