//! The real kernel (to follow).
