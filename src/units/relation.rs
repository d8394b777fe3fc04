//! The four signs with which a condition compares a number with its bound.
//!
//! Leaves out what is compared, and in which unit: that is the condition's.

/// How a number is compared with a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

/// The longer signs come first: the shorter ones begin them.
const SIGNS: [(&str, Relation); 4] =
    [("<=", Relation::AtMost), (">=", Relation::AtLeast), ("<", Relation::Below), (">", Relation::Above)];

impl Relation {
    /// The relation whose sign `text` begins with.
    #[must_use]
    pub fn leading(text: &str) -> Option<Self> {
        SIGNS.iter().find(|(sign, _)| text.starts_with(sign)).map(|&(_, relation)| relation)
    }

    /// As it is written.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
        }
    }

    /// Whether it holds between the two. Not where one of them is no number.
    #[must_use]
    pub fn holds(self, number: f64, bound: f64) -> bool {
        match self {
            Self::Below => number < bound,
            Self::AtMost => number <= bound,
            Self::Above => number > bound,
            Self::AtLeast => number >= bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_is_read_as_it_is_written() {
        for (sign, relation) in SIGNS {
            assert_eq!(relation.sign(), sign);
            assert_eq!(Relation::leading(&format!("{sign}1.0")), Some(relation));
        }
        assert_eq!(Relation::leading("= 1"), None);
    }

    #[test]
    fn only_the_inclusive_ones_hold_at_the_bound() {
        for (_, relation) in SIGNS {
            let inclusive = matches!(relation, Relation::AtMost | Relation::AtLeast);
            assert_eq!(relation.holds(1.0, 1.0), inclusive);
            assert!(!relation.holds(f64::NAN, 1.0));
        }
        assert!(Relation::Below.holds(0.9, 1.0) && !Relation::Above.holds(0.9, 1.0));
    }
}
