//! The words for how an exchange went. Log lines and metrics use these and no others.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &Self::EACH;

            /// The same with their number in the type, for what is kept of each.
            pub(crate) const EACH: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word in log lines and labels.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words! {
    /// Who ended an exchange.
    EndedBy {
        /// Nobody before its time: the answer was handed out to its end.
        Completed = "completed",
        /// The client: it was gone before the answer had ended. A server that cuts requests when its grace is over looks
        /// the same from here.
        Client = "client",
        /// The upstream: it broke its answer off.
        Upstream = "upstream",
        /// The gateway: it refused the request, cut the answer, failed or panicked.
        Gateway = "gateway",
    }
}

words! {
    /// How far an exchange had come when it ended, or when it was decided to refuse it.
    Phase {
        /// The upstream had not been tried.
        Request = "request",
        /// The upstream had been tried, and the head of the answer was not there.
        Upstream = "upstream",
        /// The head of the answer was there, and its end was not.
        Response = "response",
        /// The answer had ended.
        Done = "done",
    }
}

words! {
    /// Where an answer came from.
    ResponseSource {
        /// From the gateway itself: a refusal or a failure.
        Gateway = "gateway",
        /// From an upstream.
        Upstream = "upstream",
        /// From a service in this process that is no upstream: a handler, or log intake.
        Service = "service",
    }
}

words! {
    /// What a request counts as where lines of the access log are sampled.
    Class {
        /// Answered with 5xx, or by gRPC with a status that blames the server; failed, or broken off by anyone but the client.
        /// A refusal by gRPC counts by the status that its code has in HTTP.
        Error = "error",
        /// Answered with 4xx, or by gRPC with any other status than OK; or given up by the client.
        ClientError = "client_error",
        /// Took too long, the time in which the client was waited for left out.
        Slow = "slow",
        /// A health check.
        Health = "health",
        /// All else.
        Normal = "normal",
    }
}
