//! What a host is given: how much, how fast, and when less.

use std::time::Duration;

use super::Host;
use crate::limits::Rate;

impl Host {
    /// How many mails are begun on all lanes of this host in a time. Default: no limit.
    pub fn rate(mut self, rate: Rate) -> Host {
        self.rate = Some(rate);
        self
    }

    /// How many octets are sent on all lanes of this host in a time: [`Rate`] counts octets
    /// then, and its burst as well. What is known of a content's size is taken into account
    /// when its mail is begun, and what was sent in the end when it is known, so that the
    /// bound may be exceeded by one mail, by what cannot be known beforehand, which is each
    /// content of unknown size that is under way, and by what is said outside mails: an
    /// opening with its authentication, NOOP and QUIT are counted, and never held back.
    /// Default: no limit.
    ///
    /// ```
    /// use smtp_bulk::{Host, Rate};
    ///
    /// let host = Host::new("mx.example.org").byte_rate(Rate::per_second(1e6).burst(4_000_000));
    /// # let _ = host;
    /// ```
    pub fn byte_rate(mut self, rate: Rate) -> Host {
        self.byte_rate = Some(rate);
        self
    }

    /// The host's share of the mails, beside the other hosts' weights: with weights of 3
    /// and 1 it gets three mails for each one of the other. A host whose turn it is and
    /// that is busy is waited for, but not for longer than five seconds without a reply;
    /// one that has no lane in use is not. Mails that are [bound](crate::Message::host) to
    /// a host count. Default: where no host has one, mails go wherever a lane is free;
    /// else 1.
    pub fn weight(mut self, weight: u32) -> Host {
        self.weight = Some(weight.max(1));
        self
    }

    /// Whether the host is given fewer mails at a time when it puts off too many: 421,
    /// 450, 451, 452, 454 or x.7.z of a refusal for the time being (RFC 3463 §3.8), but not
    /// x.1.z or x.2.z, which are about one address or mailbox and not the server.
    ///
    /// Twenty mails make a round. Where a quarter of them or more were put off, the host
    /// is given half as many at a time, else a quarter more, until it is given as many as
    /// its lanes can take. Mails that were under way when that changed are not counted.
    /// Where one at a time is still put off, the host is given none for the time of its
    /// [`Backoff`](crate::Backoff), longer each time, until one is not. Connections are opened for what it
    /// is given alone. A mail to several recipients is put off when none was accepted; a
    /// greeting that refuses so counts like a mail. Each change is told:
    /// [`HostNews`](crate::HostNews). Default: yes.
    pub fn auto_throttle(mut self, is_throttled: bool) -> Host {
        self.auto_throttle = Some(is_throttled);
        self
    }

    /// After how many failures of its lanes in a row, with no mail answered between, the
    /// host rests: connections that were not made, while none of the host's stands, and
    /// those that were lost or late with a mail under way. As long as it rests no lane is
    /// opened or given a mail, and mails that are [bound](crate::Message::host) to it
    /// wait; then one lane tries. When a mail of it is answered the others go on; where it
    /// fails, the others fail with it, and the host rests for longer ([`Backoff`](crate::Backoff)).
    /// Other hosts go on. Each change is told: [`HostNews`](crate::HostNews). Default: as
    /// many as it has threads, and 5 at the least.
    pub fn circuit_breaker(mut self, failures: u32) -> Host {
        self.circuit_breaker = Some(Some(failures.max(1)));
        self
    }

    /// Each lane goes by its own failures alone.
    pub fn no_circuit_breaker(mut self) -> Host {
        self.circuit_breaker = Some(None);
        self
    }

    /// How many mails one connection is given; then the lane says QUIT and is opened
    /// anew, beside the others' mail, and nothing is held against it. What the server
    /// states (MAILMAX of LIMITS, RFC 9422) holds where it is less. Default: as many as
    /// the server lets it have.
    pub fn mails_per_connection(mut self, mails: u32) -> Host {
        self.mails_per_connection = Some(mails.max(1));
        self
    }

    /// How long a connection is given mails; one that is older, and has had one, is
    /// replaced in the same way when it has none. Default: for ever.
    pub fn max_connection_age(mut self, age: Duration) -> Host {
        self.max_connection_age = Some(age);
        self
    }
}
