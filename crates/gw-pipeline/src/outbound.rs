//! Stages on the way out.
