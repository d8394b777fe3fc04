//! No allocation on the path of a healthy message.
