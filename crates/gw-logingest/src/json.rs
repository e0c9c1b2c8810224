/// Appends a JSON string, with its quotes. Line breaks are escaped, so that what is written stays on one line.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing a string to a vector does not fail.
    _ = serde_json::to_writer(out, text);
}
