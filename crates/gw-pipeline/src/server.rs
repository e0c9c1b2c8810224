//! A bounded HTTP server for a pipeline.
