//! The pictures of a report: SVG written by hand, styled by the page's own sheet, with nothing in it that
//! is fetched. What colour says, shape, dashes or words say too.

pub mod connections;
pub mod curves;
pub mod ratios;
mod scale;
mod svg;
