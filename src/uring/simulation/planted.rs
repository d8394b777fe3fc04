//! Bugs planted between the loop and the kernel.
