//! The gw layers composed into a gateway that serves.
//!
//! The way from a file to traffic: [`config`] reads and checks it, [`assembly`] makes layers of it, [`gateway`] serves
//! them until it is told to stop. It is an example to read, not a framework.
#![allow(
    missing_docs,
    reason = "the configuration's fields are explained by the file they mirror"
)]

pub mod admin;
pub mod assembly;
pub mod config;
pub mod demo;
pub mod events;
pub mod gateway;
pub mod health;
pub mod readiness;
mod refused;
pub mod signals;
mod without_effect;

pub use self::without_effect::without_effect;
