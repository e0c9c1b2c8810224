//! A capture hears what another thread was the first to say. Alone in its file: tracing decides by how many subscribers
//! the process has had.

use gw_testkit::log_capture::LogCapture;

#[test]
fn a_place_first_reached_outside_of_the_scope_is_heard_inside_of_it() {
    let capture = LogCapture::new();
    std::thread::scope(|threads| {
        threads.spawn(speak);
    });
    capture.run(speak);
    capture.only("spoken");
}

fn speak() {
    tracing::info!("spoken");
}
