/// The right to send one request to one upstream.
///
/// [`Forward`](super::Forward) makes one for each request that it takes, and nothing else does. It is used up by
/// [`Upstream::send`](super::Upstream::send) and cannot be cloned, so a request that calls several services on its way
/// is not written by accident.
#[derive(Debug)]
pub struct UpstreamPermit(());

impl UpstreamPermit {
    pub(super) const fn new() -> Self {
        Self(())
    }

    /// What the permit stands for happens now.
    pub(super) fn use_up(self) {
        let Self(()) = self;
    }
}
