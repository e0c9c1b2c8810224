//! Layers composed with each other, end to end over sockets.

pub mod bench;
