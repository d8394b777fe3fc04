//! Numbers as people read them: three or four digits and a unit. Pure.

pub(in crate::load) use crate::units::whole;

/// A time in microseconds: `88.1 us`, `1.02 ms`, `30.0 s`; a dash where there is none.
pub(in crate::load) fn time(microseconds: Option<f64>) -> String {
    match microseconds {
        None => "-".into(),
        Some(us) if us < 0.9995 => format!("{:.0} ns", us * 1e3),
        Some(us) if us < 999.5 => format!("{} us", digits(us)),
        Some(us) if us < 999_500.0 => format!("{} ms", digits(us / 1e3)),
        Some(us) => format!("{} s", digits(us / 1e6)),
    }
}

/// A time in nanoseconds.
pub(in crate::load) fn nanoseconds(nanoseconds: Option<f64>) -> String {
    time(nanoseconds.map(|nanoseconds| nanoseconds / 1e3))
}

/// An amount with its thousands: `199.9 k`, `1.999 M`; below ten thousand as it is.
pub(in crate::load) fn amount(amount: f64) -> String {
    match amount {
        amount if amount < 9_999.5 => digits(amount),
        amount if amount < 999_950.0 => format!("{:.1} k", amount / 1e3),
        amount if amount < 999_950_000.0 => format!("{} M", digits(amount / 1e6)),
        amount => format!("{} G", digits(amount / 1e9)),
    }
}

/// Bytes, or bytes a second: `12.8 MB`, powers of 1000 as networks have them.
pub(in crate::load) fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 999.5 => format!("{bytes:.0} B"),
        bytes if bytes < 999_500.0 => format!("{} kB", digits(bytes / 1e3)),
        bytes if bytes < 999_500_000.0 => format!("{} MB", digits(bytes / 1e6)),
        bytes => format!("{} GB", digits(bytes / 1e9)),
    }
}

/// A share from 0 to 1: `99.9 %`.
pub(in crate::load) fn share(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Three digits that say something, no more than two of them behind the point.
fn digits(number: f64) -> String {
    match number {
        number if number < 9.995 => format!("{number:.2}"),
        number if number < 99.95 => format!("{number:.1}"),
        number => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_change_their_unit_and_not_their_size() {
        let times = [
            (0.5, "500 ns"),
            (0.9999, "1.00 us"),
            (88.14, "88.1 us"),
            (999.4, "999 us"),
            (999.6, "1.00 ms"),
            (30_000_000.0, "30.0 s"),
        ];
        for (us, text) in times {
            assert_eq!(time(Some(us)), text);
        }
        assert_eq!((time(None), nanoseconds(Some(2_410.0))), ("-".into(), "2.41 us".into()));
        let amounts = [
            (0.0, "0.00"),
            (9_999.0, "9999"),
            (10_000.0, "10.0 k"),
            (199_900.0, "199.9 k"),
            (999_960.0, "1.00 M"),
        ];
        for (number, text) in amounts {
            assert_eq!(amount(number), text);
        }
        assert_eq!(
            (bytes(999.0), bytes(12.84e6), bytes(4.1e9)),
            ("999 B".into(), "12.8 MB".into(), "4.10 GB".into())
        );
        assert_eq!(
            (whole(0), whole(999), whole(1_000), whole(1_234_567)),
            ("0".into(), "999".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!(share(0.999), "99.9 %");
    }
}
