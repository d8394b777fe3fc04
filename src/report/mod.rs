//! `c10k report`: what a bench came to, for people: text, Markdown, or one page that needs nothing outside
//! itself. Several results are laid side by side, the same cells together.
//!
//! It needs a result that `c10k bench` wrote and measures nothing. What it says is decided once, as a
//! [`document`]; the three forms only set it, so that they say the same.

pub mod chapters;
mod command;
pub mod compare;
pub mod document;
#[cfg(test)]
mod for_tests;
pub mod gate;
pub mod markdown;
pub mod numbers;
pub mod page;
pub mod pictures;
pub mod read;
#[cfg(test)]
mod tests;
pub mod text;

pub use command::{Typed, report};
