//! Sending requests on.
