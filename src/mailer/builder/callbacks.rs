//! Who is told what happens, and decides on it.

use super::MailerBuilder;
use crate::event::{Event, EventKind, Handler, ReadLine, Verdict};
use crate::health::HostChange;
use crate::outcome::Report;
use crate::steps::StepTaken;

impl MailerBuilder {
    /// Decides on all events for which there is no closure.
    pub fn handler(mut self, handler: impl Handler + Send + 'static) -> MailerBuilder {
        self.callbacks.base(Box::new(handler));
        self
    }

    /// Decides on events of one kind; the `on_…` methods name them.
    pub fn on(
        mut self,
        kind: EventKind,
        callback: impl FnMut(&Event<'_>) -> Verdict + Send + 'static,
    ) -> MailerBuilder {
        self.callbacks.on(kind, Box::new(callback));
        self
    }

    /// Is given every message whose outcome is final.
    pub fn on_report(mut self, callback: impl FnMut(Report<'_>) + Send + 'static) -> MailerBuilder {
        self.callbacks.on_report(Box::new(callback));
        self
    }

    /// Is told each line that a server says, as it is read: the `read` of
    /// Net::SMTP::Bulk. Of an authentication only how many octets came.
    ///
    /// ```
    /// use smtp_bulk::Mailer;
    ///
    /// let builder = Mailer::builder().on_read(|line| eprintln!("{line}"));
    /// # let _ = builder;
    /// ```
    pub fn on_read(mut self, callback: impl FnMut(&ReadLine<'_>) + Send + 'static) -> MailerBuilder {
        self.callbacks.on_read(Box::new(callback));
        self
    }

    /// Is told when a host is slowed down, or rests, and when it does no more: see
    /// [`Host::auto_throttle`](crate::Host::auto_throttle) and
    /// [`Host::circuit_breaker`](crate::Host::circuit_breaker). The log says the same, that
    /// a host is slowed down at the level `warn`, and the rest at `info`.
    ///
    /// ```
    /// let builder = smtp_bulk::Mailer::builder().on_host_change(|change| eprintln!("{change}"));
    /// # let _ = builder;
    /// ```
    pub fn on_host_change(mut self, callback: impl FnMut(&HostChange<'_>) + Send + 'static) -> MailerBuilder {
        self.callbacks.on_host_change(Box::new(callback));
        self
    }

    /// Is told of every step that a lane has taken: see [`Handler::step_taken`].
    ///
    /// ```
    /// let builder = smtp_bulk::Mailer::builder().on_step(|taken| {
    ///     if taken.is_in_batch && taken.took() > taken.waited() {
    ///         println!("{taken}");
    ///     }
    /// });
    /// ```
    pub fn on_step(mut self, callback: impl FnMut(&StepTaken<'_>) + Send + 'static) -> MailerBuilder {
        self.callbacks.on_step(Box::new(callback));
        self
    }

    /// A lane's first connection stands.
    pub fn on_connect_pass(
        self,
        callback: impl FnMut(&Event<'_>) -> Verdict + Send + 'static,
    ) -> MailerBuilder {
        self.on(EventKind::ConnectPass, callback)
    }

    /// A lane's first connection did not come about, or was lost or put off in
    /// AUTH.
    pub fn on_connect_fail(
        self,
        callback: impl FnMut(&Event<'_>) -> Verdict + Send + 'static,
    ) -> MailerBuilder {
        self.on(EventKind::ConnectFail, callback)
    }

    /// The server accepted the credentials.
    pub fn on_auth_pass(self, callback: impl FnMut(&Event<'_>) -> Verdict + Send + 'static) -> MailerBuilder {
        self.on(EventKind::AuthPass, callback)
    }

    /// The server refused the credentials, or they cannot be used with it.
    pub fn on_auth_fail(self, callback: impl FnMut(&Event<'_>) -> Verdict + Send + 'static) -> MailerBuilder {
        self.on(EventKind::AuthFail, callback)
    }

    /// A later connection stands.
    pub fn on_reconnect_pass(
        self,
        callback: impl FnMut(&Event<'_>) -> Verdict + Send + 'static,
    ) -> MailerBuilder {
        self.on(EventKind::ReconnectPass, callback)
    }

    /// A later connection did not come about.
    pub fn on_reconnect_fail(
        self,
        callback: impl FnMut(&Event<'_>) -> Verdict + Send + 'static,
    ) -> MailerBuilder {
        self.on(EventKind::ReconnectFail, callback)
    }

    /// An expected reply of the mail phase.
    pub fn on_pass(self, callback: impl FnMut(&Event<'_>) -> Verdict + Send + 'static) -> MailerBuilder {
        self.on(EventKind::Pass, callback)
    }

    /// A refused step of the mail phase, or content that failed.
    pub fn on_fail(self, callback: impl FnMut(&Event<'_>) -> Verdict + Send + 'static) -> MailerBuilder {
        self.on(EventKind::Fail, callback)
    }

    /// A deadline passed, the connection was lost, or the server sent garbage.
    pub fn on_hang(self, callback: impl FnMut(&Event<'_>) -> Verdict + Send + 'static) -> MailerBuilder {
        self.on(EventKind::Hang, callback)
    }

    /// Nothing moved on any lane for long: see [`MailerBuilder::global_timeout`].
    pub fn on_global_hang(
        self,
        callback: impl FnMut(&Event<'_>) -> Verdict + Send + 'static,
    ) -> MailerBuilder {
        self.on(EventKind::GlobalHang, callback)
    }
}
