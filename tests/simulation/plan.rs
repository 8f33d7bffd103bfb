//! What the run of one seed is made of: hosts, mails, how likely each fault
//! is, what the callbacks tend to say, and the calls from outside. All is
//! drawn from the seed before the run begins; nothing here acts.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use smtp_bulk::coordinator::BatchSettings;
use smtp_bulk::host::HostSettings;
use smtp_bulk::parameters::{Body, EnvelopeId, MailParameters, Notify, RecipientParameters, Ret};
use smtp_bulk::{
    Backoff, Content, Envelope, EventKind, Hello, Message, Pace, Pipeline, Rate, Retry, Security, Sleep,
    Step, Timeouts, Verdict,
};

use super::accounts::Account;
use super::orders::{self, Order};
use crate::mended::mended;

/// What servers say to parameters that they do not know.
pub const PARAMETER_REFUSALS: [u16; 7] = [455, 500, 501, 502, 503, 504, 555];

/// Bounds of each wait for a reply: longer than all delays that are no fault.
const TIMEOUT_MS: std::ops::Range<u64> = 10_000..60_000;

/// As many recipients as mails mostly have.
pub const FEW: usize = 0;

/// More than are asked for in one flight.
const CROWD: usize = 400;

/// How likely each fault is at each opportunity for it.
#[derive(Clone, Debug, Default)]
pub struct Odds {
    /// 4yz or 5yz instead of the reply that is hoped for.
    pub refuse: f64,
    /// No reply, ever.
    pub hang: f64,
    /// The connection ends instead of a reply, in the middle of it, or behind it.
    pub close: f64,
    /// What is no reply at all.
    pub garbage: f64,
    /// A line or a reply beyond the limits.
    pub too_long: f64,
    /// More than was asked for, where a client can see it.
    pub surplus: f64,
    /// A reply of the wrong class.
    pub wrong: f64,
    /// A reply before the command or the content has wholly arrived.
    pub early: f64,
    /// Death around the final dot.
    pub die: f64,
    /// The server stops to read.
    pub stall: f64,
    /// A reply that takes about as long as the client waits.
    pub slow: f64,
    /// The connection is refused or does not come about.
    pub dial: f64,
    /// EHLO is refused, so that HELO has to do.
    pub no_ehlo: f64,
    /// Too many recipients, behind one that was accepted.
    pub too_many: f64,
    /// Means of our own are short, so that the opening is postponed.
    pub postpone: f64,
    /// Reads and writes that move only a part.
    pub short: f64,
    /// A reply, a transit or a reading takes time at all.
    pub delay: f64,
    /// Settles without need.
    pub needless_settle: f64,
    /// Sessions from which nothing is awaited are read all the same.
    pub idle_read: f64,
    /// A callback panics.
    pub panic: f64,
    /// The TLS handshake fails.
    pub tls: f64,
    /// The TLS handshake never ends.
    pub tls_hang: f64,
    /// A server speaks in the clear where TLS comes first.
    pub plain: f64,
    /// STARTTLS is not offered, or was taken out on the way.
    pub strip: f64,
    /// Octets in the clear stand behind the 220 to STARTTLS.
    pub inject: f64,
    /// AUTH is offered without the mechanisms that are needed.
    pub no_mechanism: f64,
    /// A challenge that is none, or instead of a verdict.
    pub challenge: f64,
    /// A refusal repeats what was heard.
    pub echo: f64,
    /// A token's source takes about as long as AUTH may.
    pub source: f64,
    /// BDAT is not known although it is offered, and its octets are commands.
    pub no_bdat: f64,
    /// A transaction whose content was refused is kept until RSET.
    pub keeps: f64,
    /// 354 although no recipient was accepted.
    pub blind: f64,
    /// A MAIL that comes with a content is refused, lost, or the end.
    pub overlap: f64,
    /// A server gives up a session that rests, with a word or without one.
    pub leave: f64,
    /// Parameters of MAIL are refused.
    pub parameters: f64,
    /// What is said to a MAIL with a parameter that no extension is known for.
    pub raw: Option<u16>,
}

/// What the callbacks tend to say.
#[derive(Clone, Debug, Default)]
pub struct Opinion {
    /// How often a callback says anything but the default about the session.
    pub session: f64,
    /// The same about the message.
    pub message: f64,
    /// What one callback says always.
    pub always: Option<(EventKind, Verdict)>,
}

/// A call from outside.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    Flush(bool),
    Restart,
    Reconnect(usize),
    Abort,
    /// With the account of this number.
    Authenticate(usize),
}

/// One mail and what has to arrive of it.
pub struct MailPlan {
    pub message: Message,
    pub from: String,
    pub to: Vec<String>,
    /// The content as it has to be stored; `None` when it can never be whole.
    pub expected: Option<Vec<u8>>,
}

impl MailPlan {
    /// Whether it may go to one host alone.
    pub fn is_bound(&self) -> bool {
        self.message.bound_to().is_some()
    }

    /// Whether MAIL has parameters that cannot be left out.
    pub fn has_own(&self) -> bool {
        let envelope = self.message.envelope();
        let is_binary = self.message.content().body_kind() == Some(Body::BinaryMime);
        !envelope.is_ascii() || is_binary || envelope.mail_parameters().is_some()
    }
}

/// The run of one seed.
pub struct Plan {
    pub hosts: Vec<HostSettings>,
    pub settings: BatchSettings,
    pub mails: Vec<MailPlan>,
    pub odds: Odds,
    pub opinion: Opinion,
    /// What every server always says to one command.
    pub always: Option<(Step, u16)>,
    pub calls: Vec<(Duration, Call)>,
    pub orders: Vec<(Duration, Order)>,
    /// How often the caller restarts when all lanes are retired.
    pub revivals: u32,
    /// All that may be authenticated with, and which one each host begins with.
    pub accounts: Vec<Arc<Account>>,
    pub own: Vec<Option<usize>>,
    /// Nothing goes wrong and nobody interferes.
    pub faultless: bool,
    /// Whether what is left at the end is reported instead of returned.
    pub abandons: bool,
    /// Hosts may be sent several things at once, and offer what they like.
    pub flies: bool,
    /// The caller says that it has more mails, and hands them over by and by.
    pub feeds: bool,
    /// The caller asks whether there is room for the very mail that it has.
    pub asks_for_room: bool,
}

/// Sources of chance, each for what came later than the others, so that a world without
/// that is the same as it was before there was any.
pub struct Chances {
    doors: Rng,
    flights: Rng,
    paces: Rng,
    rests: Rng,
    orders: Rng,
    portions: Rng,
}

impl Chances {
    pub fn new(seed: u64) -> Chances {
        Chances {
            doors: Rng::with_seed(!seed),
            flights: Rng::with_seed(seed.rotate_left(32) ^ 0x0066_6c69_6573),
            paces: Rng::with_seed(seed.rotate_left(16) ^ 0x0070_6163_6573),
            rests: Rng::with_seed(seed.rotate_left(48) ^ 0x0072_6573_7473),
            orders: Rng::with_seed(seed.rotate_left(24) ^ 0x006f_7264_6572),
            portions: Rng::with_seed(seed.rotate_left(24) ^ 0x0070_6f72_7473),
        }
    }
}

impl Plan {
    pub fn draw(random: &mut Rng, chances: Chances, epoch: Instant) -> Plan {
        let Chances { doors, flights, paces, rests, orders, portions } = &mut { chances };
        let mut plan = Plan::draw_open(random, epoch);
        if doors.bool() {
            plan.guard(doors);
        }
        if flights.u8(0..3) > 0 {
            plan.fly(flights, epoch);
            if flights.u8(0..100) == 0 {
                plan.crowd(flights, epoch);
            }
        }
        plan.settings.pace = pace(paces);
        plan.hosts.iter_mut().for_each(|host| grow_patient(paces, host));
        plan.hosts.iter_mut().for_each(|host| limit(paces, host));
        plan.settings.total_rate = (paces.u8(0..8) == 0).then(|| rate(paces));
        if paces.u8(0..4) == 0 && !plan.faultless {
            plan.settings.global_timeout = Some(Duration::from_millis(paces.u64(1..20_000)));
        }
        if paces.u8(0..3) == 0 {
            plan.settings.retry_delay = Duration::from_millis(paces.u64(1..20_000));
            plan.settings.max_delayed = paces.bool().then(|| paces.usize(0..6));
        }
        if rests.u8(0..3) > 0 {
            plan.rest(rests);
        }
        plan.orders = orders::draw(orders, plan.hosts.len() as u32);
        plan.portion(portions, epoch);
        plan.asks_for_room = portions.bool();
        plan
    }

    /// Says what becomes of connections without a mail.
    fn rest(&mut self, random: &mut Rng) {
        for host in &mut self.hosts {
            host.keep_alive = random.bool();
            host.noop_after = random.bool().then(|| Duration::from_millis(random.u64(0..20_000)));
        }
        if !self.faultless {
            self.odds.leave = odds(random);
        }
    }

    fn draw_open(random: &mut Rng, epoch: Instant) -> Plan {
        let faultless = random.u8(0..8) == 0;
        let odds = if faultless { calm(random) } else { stormy(random) };
        let hosts: Vec<HostSettings> = (0..random.u8(1..4)).map(|number| host(random, number)).collect();
        let lanes: u32 = hosts.iter().map(|host| host.threads).sum();
        let settings = BatchSettings {
            max_attempts: random.u32(1..5),
            max_restarts: random.u32(0..4),
            resend_in_doubt: random.u8(0..4) == 0,
            linger: (random.u8(0..4) == 0).then(|| Duration::from_millis(random.u64(0..30_000))),
            seed: random.u64(..),
            ..BatchSettings::default()
        };
        let host_count = hosts.len();
        let count = if random.u8(0..4) == 0 { random.usize(0..40) } else { random.usize(0..12) };
        let mails = (0..count).map(|number| mail(random, number, FEW, faultless, false, epoch)).collect();
        Plan {
            hosts,
            settings,
            mails,
            odds,
            opinion: if faultless { Opinion::default() } else { opinion(random) },
            always: (!faultless && random.u8(0..12) == 0).then(|| stubbornness(random)),
            calls: if faultless { Vec::new() } else { calls(random, lanes as usize) },
            orders: Vec::new(),
            revivals: random.u32(0..3),
            accounts: Vec::new(),
            own: vec![None; host_count],
            faultless,
            abandons: random.bool(),
            flies: false,
            feeds: false,
            asks_for_room: false,
        }
    }

    /// Lets hosts be sent several things at once, and gives mails what needs
    /// extensions.
    fn fly(&mut self, random: &mut Rng, epoch: Instant) {
        self.flies = true;
        self.feeds = random.bool();
        for host in &mut self.hosts {
            host.pipeline = match random.u8(0..8) {
                0 => Pipeline::Single,
                1..=2 => Pipeline::Envelope,
                _ => Pipeline::Full,
            };
            host.depth = if random.bool() { 1 } else { random.u32(2..6) };
            host.max_refusals = if random.bool() { 8 } else { random.u32(1..5) };
            host.is_lmtp = random.u8(0..4) == 0;
            host.max_recipients = random.bool().then(|| random.u32(1..5));
            host.eight_bit_anyway = random.bool();
        }
        let count = if random.bool() { random.usize(0..60) } else { random.usize(0..12) };
        let faultless = self.faultless;
        self.mails = (0..count).map(|number| mail(random, number, FEW, faultless, true, epoch)).collect();
        if faultless {
            return;
        }
        self.odds = Odds {
            no_bdat: odds(random) / 2.0,
            keeps: odds(random) * 2.0,
            blind: odds(random) * 2.0,
            overlap: odds(random),
            parameters: odds(random) / 2.0,
            raw: (random.u8(0..4) == 0)
                .then(|| PARAMETER_REFUSALS[random.usize(0..PARAMETER_REFUSALS.len())]),
            ..self.odds.clone()
        };
    }

    /// Has a few mails to more recipients than a flight has room for.
    fn crowd(&mut self, random: &mut Rng, epoch: Instant) {
        for host in &mut self.hosts {
            host.max_recipients = Some(random.u32(100..1_000));
        }
        let faultless = self.faultless;
        let mails = (0..random.usize(1..9)).map(|number| {
            let recipients = if random.u8(0..3) == 0 { random.usize(100..CROWD) } else { FEW };
            mail(random, number, recipients, faultless, true, epoch)
        });
        self.mails = mails.collect();
        // What befalls one reply in a hundred would befall each of these mails.
        let odds = &self.odds;
        self.odds = Odds {
            refuse: odds.refuse / 50.0,
            hang: odds.hang / 50.0,
            close: odds.close / 50.0,
            garbage: odds.garbage / 50.0,
            too_long: odds.too_long / 50.0,
            wrong: odds.wrong / 50.0,
            slow: odds.slow / 50.0,
            too_many: odds.too_many / 5.0,
            ..odds.clone()
        };
        self.opinion.session /= 50.0;
        self.opinion.message /= 50.0;
    }

    /// Gives hosts TLS and credentials, and what can go wrong with them.
    fn guard(&mut self, random: &mut Rng) {
        for host in &mut self.hosts {
            host.security = security(random);
        }
        for own in &mut self.own {
            *own = match random.u8(0..8) {
                0..=2 => None,
                3 => self.accounts.len().checked_sub(1),
                _ => {
                    let account = Account::draw(random, self.accounts.len(), self.faultless);
                    self.accounts.push(Arc::new(account));
                    Some(self.accounts.len() - 1)
                }
            };
        }
        for (host, own) in self.hosts.iter_mut().zip(&self.own) {
            host.credentials = own.map(|own| self.accounts[own].credentials.clone());
        }
        if self.faultless {
            return;
        }
        self.odds = Odds {
            tls: odds(random),
            tls_hang: odds(random) / 2.0,
            plain: odds(random) / 2.0,
            strip: odds(random),
            inject: odds(random),
            no_mechanism: odds(random) / 2.0,
            challenge: odds(random) / 2.0,
            echo: odds(random),
            source: odds(random),
            ..self.odds.clone()
        };
        for _ in 0..random.u32(0..6).saturating_sub(2) {
            self.accounts.push(Arc::new(Account::draw(random, self.accounts.len(), false)));
            let reach = if random.bool() { 200 } else { 20_000 };
            let call = Call::Authenticate(random.usize(0..self.accounts.len()));
            self.calls.push((Duration::from_millis(random.u64(0..reach)), call));
        }
        self.calls.sort_by_key(|(at, _)| *at);
        if self.always.is_none() && random.u8(0..12) == 0 {
            let is_auth = random.bool();
            let code = if random.bool() { auth_refusal(random) } else { refusal(random) };
            self.always = Some((if is_auth { Step::Auth } else { Step::StartTls }, code));
        }
        if self.opinion.always.is_none() && random.u8(0..8) == 0 {
            let kinds = [EventKind::AuthPass, EventKind::AuthFail, EventKind::ConnectFail];
            let kind = *random.choice(&kinds).unwrap_or(&EventKind::AuthPass);
            self.opinion.always = Some((kind, verdict(random, 1.0, 0.0)));
        }
    }
}

fn pace(random: &mut Rng) -> Pace {
    match random.u8(0..4) {
        0..=1 => Pace::Lockstep,
        2 => Pace::Free,
        _ => Pace::Quorum {
            share: [0.1, 0.5, 0.75, 1.0][random.usize(0..4)],
            grace: Duration::from_millis(if random.bool() { 0 } else { random.u64(1..2_000) }),
        },
    }
}

/// Limits of what a host and its connections are given, in some of the runs.
fn limit(random: &mut Rng, host: &mut HostSettings) {
    host.rate = (random.u8(0..6) == 0).then(|| rate(random));
    host.mails_per_connection = (random.u8(0..6) == 0).then(|| random.u32(1..5));
    host.max_connection_age = (random.u8(0..8) == 0).then(|| Duration::from_millis(random.u64(1..20_000)));
}

pub fn rate(random: &mut Rng) -> Rate {
    let rate = Rate::per_second(0.2 + 20.0 * random.f64()).burst(random.u32(1..6));
    if random.bool() { rate } else { rate.warm_up(Duration::from_millis(random.u64(1..20_000))) }
}

/// Bounds by cause, and a least wait, in some of the runs.
fn grow_patient(random: &mut Rng, host: &mut HostSettings) {
    if random.u8(0..4) == 0 {
        host.retry = Some(Retry {
            hang: random.u32(0..4),
            global_hang: random.u32(0..4),
            fail: random.u32(0..7),
            give_up_after: Duration::from_millis(random.u64(1..20_000)),
        });
    }
    if random.u8(0..4) == 0 {
        let mut wait = || Duration::from_millis(random.u64(0..3_000));
        host.sleep = Sleep { hang: wait(), fail: wait() };
    }
}

fn security(random: &mut Rng) -> Security {
    match random.u8(0..12) {
        0..=3 => Security::None,
        4..=5 => Security::Implicit,
        6 => Security::ImplicitUnverified,
        7..=8 => Security::StartTls,
        9 => Security::StartTlsUnverified,
        10 => Security::OpportunisticStartTls,
        _ => Security::OpportunisticStartTlsUnverified,
    }
}

/// Half of all faults are absent from a run, and a few are frequent.
fn odds(random: &mut Rng) -> f64 {
    match random.u8(0..20) {
        0..=9 => 0.0,
        10..=14 => 0.01,
        15..=17 => 0.05,
        18 => 0.2,
        _ => 0.5,
    }
}

fn calm(random: &mut Rng) -> Odds {
    let mut often = || [0.0, 0.3, 0.9].get(random.usize(0..3)).copied().unwrap_or_default();
    Odds {
        short: often(),
        delay: often(),
        needless_settle: often() / 3.0,
        idle_read: often(),
        ..Odds::default()
    }
}

fn stormy(random: &mut Rng) -> Odds {
    let calm = calm(random);
    let mut odds = || odds(random);
    Odds {
        refuse: odds(),
        hang: odds() / 2.0,
        close: odds(),
        garbage: odds() / 2.0,
        too_long: odds() / 4.0,
        surplus: odds(),
        wrong: odds() / 2.0,
        early: odds(),
        die: odds(),
        stall: odds() / 2.0,
        slow: odds(),
        dial: odds(),
        no_ehlo: odds(),
        too_many: odds(),
        postpone: odds() / 2.0,
        panic: odds() / 4.0,
        ..calm
    }
}

fn opinion(random: &mut Rng) -> Opinion {
    let kinds = [
        EventKind::ConnectPass,
        EventKind::ConnectFail,
        EventKind::ReconnectPass,
        EventKind::ReconnectFail,
        EventKind::Pass,
        EventKind::Fail,
        EventKind::Hang,
    ];
    let always = (random.u8(0..8) == 0)
        .then(|| (*random.choice(&kinds).unwrap_or(&EventKind::Fail), verdict(random, 1.0, 0.3)));
    Opinion { session: odds(random), message: odds(random), always }
}

/// A verdict that differs from the default as often as is said.
pub fn verdict(random: &mut Rng, session: f64, message: f64) -> Verdict {
    let mut verdict = Verdict::DEFAULT;
    if random.f64() < session {
        let codes = [1, 101, 102, 103, 104, 202, 203];
        let code = codes.get(random.usize(0..codes.len())).copied().unwrap_or(1);
        verdict = Verdict::from_code(code).unwrap_or_default();
    }
    match random.f64() < message {
        true if random.bool() => verdict.requeue(),
        true => verdict.drop_message(),
        false => verdict,
    }
}

/// A code of any refusal, the odd ones more often than nature has them.
pub fn refusal(random: &mut Rng) -> u16 {
    let codes = [421, 450, 451, 452, 500, 501, 502, 503, 530, 538, 550, 552, 554];
    codes.get(random.usize(0..codes.len())).copied().unwrap_or(550)
}

/// The same of AUTH.
pub fn auth_refusal(random: &mut Rng) -> u16 {
    let codes = [535, 535, 454, 454, 421, 504, 504, 534, 530, 503, 500, 432, 450];
    codes.get(random.usize(0..codes.len())).copied().unwrap_or(535)
}

fn stubbornness(random: &mut Rng) -> (Step, u16) {
    let steps = [Step::Greeting, Step::Ehlo, Step::Mail, Step::Rcpt, Step::Data, Step::Content, Step::Rset];
    (steps.get(random.usize(0..steps.len())).copied().unwrap_or(Step::Mail), refusal(random))
}

fn calls(random: &mut Rng, lanes: usize) -> Vec<(Duration, Call)> {
    let count = if random.bool() { 0 } else { random.usize(1..6) };
    let mut calls: Vec<(Duration, Call)> = (0..count)
        .map(|_| {
            let reach = if random.bool() { 200 } else { 20_000 };
            let at = Duration::from_millis(random.u64(0..reach));
            let call = match random.u8(0..8) {
                0..=1 => Call::Flush(true),
                2 => Call::Flush(false),
                3..=4 => Call::Restart,
                5..=6 => Call::Reconnect(random.usize(0..lanes)),
                _ => Call::Abort,
            };
            (at, call)
        })
        .collect();
    calls.sort_by_key(|(at, _)| *at);
    calls
}

fn host(random: &mut Rng, number: u8) -> HostSettings {
    let base = Duration::from_millis(random.u64(1..5_000));
    HostSettings {
        name: format!("mx{number}.example"),
        threads: random.u32(1..4),
        hello: if random.bool() { Hello::LocalAddress } else { Hello::ServerName },
        timeouts: timeouts(random),
        max_connect_failures: random.u32(1..7),
        backoff: Backoff { base, max: base * random.u32(1..20) },
        ..HostSettings::default()
    }
}

fn timeouts(random: &mut Rng) -> Timeouts {
    let mut wait = || Duration::from_millis(random.u64(TIMEOUT_MS));
    Timeouts {
        connect: wait(),
        greeting: wait(),
        ehlo: wait(),
        mail: wait(),
        rcpt: wait(),
        data: wait(),
        content: wait(),
        final_reply: wait(),
        rset: wait(),
        quit: wait(),
        tls: wait(),
        auth: wait(),
    }
}

// ---- mails ----------------------------------------------------------------

pub fn mail(
    random: &mut Rng,
    number: usize,
    recipients: usize,
    faultless: bool,
    flies: bool,
    epoch: Instant,
) -> MailPlan {
    let odd = |random: &mut Rng, one_in: u8| !faultless && random.u8(0..one_in) == 0;
    let from = if random.u8(0..8) == 0 { String::new() } else { format!("m{number}@from.example") };
    let recipients = match recipients {
        FEW if random.bool() => 1,
        FEW => random.usize(1..6),
        crowd => crowd,
    };
    let letter = if odd(random, 24) { "ü" } else { "r" };
    let to: Vec<String> =
        (0..recipients).map(|place| format!("{letter}{number}.{place}@to{place}.example")).collect();
    let mut envelope = Envelope::parse(&from, &to).expect("an envelope");
    let raw = if flies { octets_of_any_kind(random) } else { octets(random) };
    if flies && random.u8(0..4) == 0 {
        envelope = with_parameters(random, envelope);
    }
    let broken = odd(random, 12);
    let (content, is_whole) =
        if broken { broken_content(random, raw.clone()) } else { content(random, raw.clone()) };
    let is_binary = odd(random, 12) && flies;
    let content = if is_binary { content.body(Body::BinaryMime) } else { content };
    let mut message = Message::new(envelope, content).id(number as u64);
    if random.u8(0..4) == 0 {
        message = message.all_or_nothing();
    }
    if odd(random, 12) {
        message = message.expires(epoch + Duration::from_millis(random.u64(0..60_000)));
    }
    MailPlan {
        message,
        from,
        to,
        expected: is_whole.then(|| if is_binary { raw.to_vec() } else { mended(&raw) }),
    }
}

fn with_parameters(random: &mut Rng, envelope: Envelope) -> Envelope {
    let id = EnvelopeId::new("batch 17").expect("an id");
    let all = MailParameters::new().with_ret(if random.bool() { Ret::Full } else { Ret::Headers });
    let all = if random.bool() { all.with_envelope_id(id) } else { all };
    let all = if random.u8(0..4) == 0 { all.with_raw("XODD", Some("1")).expect("a parameter") } else { all };
    let envelope = envelope.with_mail_parameters(all);
    if random.bool() {
        return envelope;
    }
    envelope
        .with_recipient_parameters(RecipientParameters::new().with_notify(Notify::SUCCESS | Notify::DELAY))
}

/// Octets beyond ASCII now and then, and more contents of several chunks.
fn octets_of_any_kind(random: &mut Rng) -> Arc<[u8]> {
    let plain = if random.u16(0..400) == 0 {
        let length = random.usize(60_000..300_000);
        let any = (0..length).map(|_| b"\r\n\n..abcdefgh QUIT"[random.usize(0..17)]);
        // In half of them there is nothing to mend.
        if length.is_multiple_of(2) { in_lines(any) } else { any.collect() }
    } else {
        octets(random)
    };
    if random.u8(0..8) > 0 || plain.is_empty() {
        return plain;
    }
    [&plain[..], "\u{e9}\r\n".as_bytes()].concat().into()
}

/// The same in lines that end in CR LF, and with no other line ends.
fn in_lines(octets: impl Iterator<Item = u8>) -> Arc<[u8]> {
    let in_line = |(place, octet): (usize, u8)| match place % 64 {
        62 => b'\r',
        63 => b'\n',
        _ if octet.is_ascii_alphabetic() => octet,
        _ => b' ',
    };
    octets.enumerate().map(in_line).collect()
}

fn octets(random: &mut Rng) -> Arc<[u8]> {
    let length = match random.u16(0..1_000) {
        0 => random.usize(60_000..140_000),
        1..=80 => 0,
        _ => random.usize(0..200),
    };
    (0..length).map(|_| b"\r\n\n..abcdefgh QUIT"[random.usize(0..17)]).collect()
}

fn content(random: &mut Rng, raw: Arc<[u8]>) -> (Content, bool) {
    let length = raw.len() as u64;
    let content = match random.u8(0..4) {
        0 => Content::from(raw),
        1 => Content::from(raw.to_vec()),
        kind => source(random, kind == 2, raw, None),
    };
    (if random.bool() { content.promise(length) } else { content }, true)
}

/// A content that fails, and whether it can be whole all the same.
fn broken_content(random: &mut Rng, raw: Arc<[u8]>) -> (Content, bool) {
    let length = raw.len() as u64;
    let blocking = random.bool();
    match random.u8(0..5) {
        0 => {
            let open = || Err(io::ErrorKind::NotFound.into());
            (if blocking { Content::blocking(open) } else { Content::reader(open) }, false)
        }
        1 => {
            // ENFILE, a shortage of ours: it is tried again.
            let open = || Err(io::Error::from_raw_os_error(23));
            (if blocking { Content::blocking(open) } else { Content::reader(open) }, false)
        }
        2 => {
            let end = random.usize(0..=raw.len());
            (source(random, blocking, raw, Some(end)), false)
        }
        3 => (source(random, blocking, raw, None).promise(length + random.u64(1..50)), false),
        _ if length == 0 => (Content::from(raw), true),
        _ => {
            let promised = random.u64(0..length);
            (source(random, blocking, raw, None).promise(promised), false)
        }
    }
}

fn source(random: &mut Rng, blocking: bool, raw: Arc<[u8]>, fails_at: Option<usize>) -> Content {
    let piece = if random.bool() { random.usize(1..20) } else { random.usize(1..100_000) };
    let open = move || {
        let reader = Pieces { raw: Arc::clone(&raw), used: 0, piece, fails_at, interrupted: false };
        Ok(Box::new(reader) as Box<dyn Read + Send>)
    };
    if blocking { Content::blocking(open) } else { Content::reader(open) }
}

/// Reads a few octets at a time, is interrupted now and then, and may fail.
struct Pieces {
    raw: Arc<[u8]>,
    used: usize,
    piece: usize,
    fails_at: Option<usize>,
    interrupted: bool,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let end = self.fails_at.unwrap_or(self.raw.len());
        let rest = &self.raw[self.used..end];
        if rest.is_empty() && self.fails_at.is_some() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = rest.len().min(self.piece).min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.used += count;
        Ok(count)
    }
}
