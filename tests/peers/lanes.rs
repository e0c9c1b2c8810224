//! What logins notice of a server whose logs are saturated: lanes beside semaphores.

pub mod app;
pub mod instructions;
pub mod latency;
pub mod logins;
pub mod protection;
pub mod report;
pub mod saturation;
pub mod subject;
pub mod talk;
