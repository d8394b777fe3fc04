//! The fake kernel (to follow).
