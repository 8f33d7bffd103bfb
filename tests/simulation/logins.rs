//! Who may authenticate when: a model of what each host's lanes know of their
//! credentials, fed with the events and with what servers hear. A secret that
//! was refused is not said again, nobody tries beside the first one or before
//! its misfortune is over, and every refusal is told or is worth another token.

use std::sync::Arc;
use std::time::Duration;

use smtp_bulk::coordinator::{Lane, Link, Standing};
use smtp_bulk::host::HostSettings;
use smtp_bulk::{EventKind, Failure, Security, Step};

use super::accounts::{Account, Kind};
use super::model::doubled;

/// What the lanes of a host know of their credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Accepted,
    Refused,
    /// They were accepted, and the last lane that was in has gone in the settle
    /// in which another began: nothing, or accepted.
    Vague,
}

#[derive(Debug, Default)]
struct HostLogin {
    account: Option<usize>,
    /// How often the account was changed.
    changes: u32,
    known: Known,
    /// How long nobody tries, as the last try came to nothing: at the most, and for
    /// sure.
    put_off: Option<(Duration, Duration)>,
    /// Tries in a row that came to nothing, or a few more, and those for sure.
    failures: u32,
    sure_failures: u32,
    /// A token was refused, and the next one has not been accepted.
    renews: bool,
    /// They were refused in the last settle, whatever came behind that.
    was_refused: bool,
    /// A try came to nothing in the last settle, and all that wait are told.
    is_news: bool,
    /// As of which change a refusal was told last; `true` when another one of
    /// the same is surely no news.
    told: Option<(u32, bool)>,
}

/// What a lane authenticates with, from its first AUTH to the verdict on it.
#[derive(Clone, Debug)]
struct Attempt {
    connection: u64,
    changes: u32,
    account: usize,
    renews: bool,
    /// The mechanisms that have been named.
    named: Vec<String>,
}

/// A lane before a settle.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    connection: u64,
    is_under_way: bool,
    is_in: bool,
    has_failed: bool,
    /// Something of the flight was sent.
    has_sent: bool,
    /// What it failed at is the client's own, or the server's silence.
    is_own: bool,
    /// The token was refused by a challenge.
    heard_refusal: bool,
    /// AUTH was refused for good, which nobody has judged.
    refusal: Option<u16>,
}

#[derive(Debug, Default)]
struct LaneLogin {
    host: usize,
    attempt: Option<Attempt>,
    before: Before,
    told: Option<EventKind>,
    /// It was given up without a word, unless the client had given up already.
    is_silent: bool,
    /// The connection that is authenticated, and as of which change.
    entered: Option<(u64, u32)>,
    /// The connection that had a MAIL out when credentials came.
    spared: Option<u64>,
}

#[derive(Debug)]
pub struct Logins {
    pub accounts: Vec<Arc<Account>>,
    /// Some host has TLS or credentials.
    pub is_guarded: bool,
    settings: Vec<HostSettings>,
    hosts: Vec<HostLogin>,
    lanes: Vec<LaneLogin>,
    /// What servers have repeated of what they heard.
    echoed: Vec<String>,
}

impl Logins {
    /// `own` is the account of each host.
    pub fn new(accounts: Vec<Arc<Account>>, own: &[Option<usize>], settings: &[HostSettings]) -> Logins {
        let is_plain = |host: &HostSettings| host.security == Security::None && host.credentials.is_none();
        let host = |account: &Option<usize>| HostLogin { account: *account, ..HostLogin::default() };
        Logins {
            is_guarded: !accounts.is_empty() || !settings.iter().all(is_plain),
            accounts,
            settings: settings.to_vec(),
            hosts: own.iter().map(host).collect(),
            lanes: Vec::new(),
            echoed: Vec::new(),
        }
    }

    pub fn has_lanes(&mut self, lanes: &[Lane]) {
        let lane = |lane: &Lane| LaneLogin { host: lane.id().host as usize, ..LaneLogin::default() };
        self.lanes = lanes.iter().map(lane).collect();
    }

    // ---- the caller -------------------------------------------------------

    /// The caller has other credentials: gives the lanes that have to be
    /// opened anew for them.
    pub fn change(&mut self, account: usize, lanes: &[Lane]) -> Vec<usize> {
        for host in &mut self.hosts {
            let (changes, told) = (host.changes + 1, host.told);
            *host = HostLogin { account: Some(account), changes, told, ..HostLogin::default() };
        }
        let mut renewed = Vec::new();
        for (index, lane) in lanes.iter().enumerate() {
            let session = lane.session();
            let concerned = lane.link() == Link::Up && !session.is_leaving() && !session.is_authenticated();
            let has_mail_out = session.step() == Step::Mail || session.is_pipelined();
            self.lanes[index].spared = (concerned && has_mail_out).then_some(lane.connection());
            let is_free = lane.standing() == Standing::Active
                && lane.held() == 0
                && session.is_usable()
                // NOOP was answered, and that has not been judged.
                && !session.has_answer()
                && !session.needs_reset();
            if concerned && lane.standing() != Standing::Opening && !is_free {
                renewed.push(index);
            }
        }
        renewed
    }

    /// The caller wants to try again what was refused or put off.
    pub fn reopened(&mut self, lane: Option<usize>) {
        let only = lane.map(|lane| self.lanes[lane].host);
        for (number, host) in self.hosts.iter_mut().enumerate() {
            if only.is_some_and(|only| only != number) {
                continue;
            }
            match host.known {
                Known::Accepted => {}
                // What was put off may be tried now, if that is what is known.
                Known::Vague => {
                    host.put_off = host.put_off.map(|(until, _)| (until, Duration::ZERO));
                    host.told = host.told.map(|(changes, _)| (changes, false));
                }
                Known::Nothing | Known::Refused => {
                    let (account, changes) = (host.account, host.changes);
                    *host = HostLogin { account, changes, ..HostLogin::default() };
                }
            }
        }
    }

    // ---- what servers see -------------------------------------------------

    /// A lane names a mechanism in AUTH.
    pub fn named(&mut self, lane: usize, connection: u64, mechanism: &str, has_tls: bool) {
        let accounts = &self.accounts;
        let attempt = self.lanes[lane].attempt.as_mut().filter(|attempt| attempt.connection == connection);
        let Some(attempt) = attempt else { panic!("AUTH on lane {lane}, which may not") };
        let account = &accounts[attempt.account];
        assert!(has_tls || account.allows_clear, "lane {lane} says in the clear what is secret");
        assert!(!attempt.named.iter().any(|named| named == mechanism), "{mechanism} twice on lane {lane}");
        attempt.named.push(mechanism.to_owned());
    }

    /// A lane has shown whose secret it has.
    pub fn shown(&self, lane: usize, connection: u64, account: usize) {
        let attempt = self.lanes[lane].attempt.as_ref().filter(|attempt| attempt.connection == connection);
        let own = attempt.map(|attempt| attempt.account);
        assert_eq!(own, Some(account), "lane {lane} shows another secret than its own");
    }

    /// Whether MAIL may come on a connection without AUTH.
    pub fn may_send(&self, lane: usize, connection: u64) -> bool {
        let LaneLogin { host, spared, .. } = self.lanes[lane];
        self.hosts[host].account.is_none() || spared == Some(connection)
    }

    pub fn echo(&mut self, line: &str) {
        self.echoed.extend(line.split(' ').filter(|word| word.len() > 12).map(str::to_owned));
    }

    /// What somebody is shown has no secret in it.
    pub fn check_shown(&self, text: &str) {
        let is_told = text.contains(super::accounts::SECRET)
            || self.echoed.iter().any(|echoed| text.contains(echoed.as_str()));
        assert!(!is_told, "a secret is told: {text}");
    }

    // ---- settle -----------------------------------------------------------

    pub fn before_settle(&mut self, lanes: &[Lane]) {
        self.hosts.iter_mut().for_each(|host| host.was_refused = false);
        self.look(lanes);
    }

    /// Another settle follows at once, as a callback panicked.
    pub fn settled_in_part(&mut self, lanes: &[Lane], now: Duration) {
        self.after_settle(lanes, now);
        self.look(lanes);
    }

    fn look(&mut self, lanes: &[Lane]) {
        self.hosts.iter_mut().for_each(|host| host.is_news = false);
        for (own, lane) in self.lanes.iter_mut().zip(lanes) {
            let session = lane.session();
            let answer = session.answer().filter(|answer| answer.step == Step::Auth);
            let code = answer.map(|answer| answer.reply.code().as_u16());
            own.before = Before {
                connection: lane.connection(),
                is_under_way: is_under_way(lane),
                is_in: is_in(own, &self.hosts[own.host], lane),
                has_failed: session.failure().is_some(),
                has_sent: session.has_flight_begun(),
                is_own: matches!(session.failure(), Some(Failure::Auth(_) | Failure::TimedOut { .. })),
                heard_refusal: session.has_heard_refusal(),
                refusal: code.filter(|code| *code >= 500),
            };
            (own.told, own.is_silent) = (None, false);
        }
    }

    /// A callback is asked about an authentication: says whether that is about
    /// the credentials that the lane's host has now.
    pub fn tell(&mut self, lane: usize, kind: EventKind) -> bool {
        let own = &mut self.lanes[lane];
        own.told.take_if(|_| own.is_silent);
        assert!(own.told.replace(kind).is_none(), "lane {lane} is told twice how it authenticated");
        let is_spoilt = kind == EventKind::AuthPass && own.before.has_failed;
        assert!(!is_spoilt, "lane {lane} believes a server that speaks out of turn");
        let attempt = own.attempt.as_ref();
        let attempt = attempt.unwrap_or_else(|| panic!("{kind} on lane {lane}, which did not try"));
        attempt.changes == self.hosts[own.host].changes
    }

    /// A callback is asked about an opening that failed in AUTH, or before its
    /// turn to try.
    pub fn fail(&mut self, lane: usize, kind: EventKind) {
        let own = &mut self.lanes[lane];
        own.told.take_if(|_| own.is_silent);
        assert!(own.told.replace(kind).is_none(), "lane {lane} is told twice how it authenticated");
    }

    /// All lanes that wait are given up, those that authenticate without a word.
    pub fn stood_still(&mut self) {
        for own in &mut self.lanes {
            let waits = own.before.is_under_way && !own.before.has_failed && own.before.refusal.is_none();
            if waits && own.told.is_none() {
                (own.told, own.is_silent) = (Some(EventKind::ConnectFail), true);
                own.before.is_own = true;
            }
        }
    }

    /// Whether all lanes of this one's host that have yet to authenticate are
    /// of no use.
    pub fn is_refused(&self, lane: usize) -> bool {
        let host = &self.hosts[self.lanes[lane].host];
        host.was_refused || host.known == Known::Refused
    }

    /// Whether the lane has to authenticate before it is of use.
    pub fn must_authenticate(&self, index: usize, lane: &Lane) -> bool {
        self.hosts[self.lanes[index].host].account.is_some() && !lane.session().is_authenticated()
    }

    /// Everything was given up.
    pub fn closed(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.attempt = None);
    }

    pub fn after_settle(&mut self, lanes: &[Lane], now: Duration) {
        for (index, lane) in lanes.iter().enumerate() {
            self.learn(index, lane, now);
        }
        for index in 0..lanes.len() {
            self.begin(index, lanes, now);
        }
        for (number, host) in self.hosts.iter().enumerate() {
            self.check_waiting(number, host, lanes, now);
        }
    }

    /// Whoever waits does so for somebody, or for a time.
    fn check_waiting(&self, number: usize, host: &HostLogin, lanes: &[Lane], now: Duration) {
        let of_host = || self.lanes.iter().zip(lanes).filter(|(own, _)| own.host == number);
        let waits = |lane: &Lane| {
            lane.standing() == Standing::Opening && lane.link() == Link::Up && lane.session().is_ready()
        };
        let Some((_, waiting)) = of_host().find(|(_, lane)| waits(lane)) else { return };
        let id = waiting.id();
        assert!(host.known != Known::Refused, "{id:?} waits for what was refused");
        assert!(!host.is_news, "{id:?} is not told that the try came to nothing");
        let is_one_in = of_host().any(|(own, lane)| is_in(own, host, lane));
        assert!(host.known != Known::Accepted || !is_one_in, "{id:?} waits for what is known");
        let is_one_trying = of_host().any(|(_, lane)| is_under_way(lane));
        let is_put_off = host.put_off.is_some_and(|(until, _)| now < until);
        assert!(is_one_trying || is_put_off, "{id:?} waits for nobody");
    }

    /// What came of the lane's attempt holds for its host.
    fn learn(&mut self, index: usize, lane: &Lane, now: Duration) {
        let own = &mut self.lanes[index];
        let Some(attempt) = &own.attempt else { return };
        let host = &mut self.hosts[own.host];
        let is_current = attempt.changes == host.changes;
        let is_latest = is_current && (attempt.renews || !host.renews);
        let is_token = matches!(self.accounts[attempt.account].kind, Kind::Token { .. });
        let is_same = lane.connection() == own.before.connection;
        let Before { refusal, heard_refusal, has_sent, is_own, .. } = own.before;
        let has_failed = own.told.is_some() && heard_refusal;
        let is_refused = has_failed || refusal.is_some_and(|code| !blames_session(code));
        let is_refused_token = is_current && is_token && !attempt.renews && is_refused;
        // A connection that was dead before a word was said is nobody else's misfortune.
        let is_nothing = !is_own && !has_sent && attempt.named.is_empty();
        match (own.told, refusal) {
            (Some(EventKind::AuthPass), _) => {
                own.entered = Some((attempt.connection, attempt.changes));
                let account = &self.accounts[attempt.account];
                assert!(!account.doubts, "lane {index} is in, and does not believe it: {attempt:?}");
                if is_latest && host.known != Known::Refused {
                    (host.known, host.renews) = (Known::Accepted, false);
                    (host.put_off, host.failures, host.sure_failures) = (None, 0, 0);
                }
            }
            (Some(EventKind::AuthFail), refusal) => {
                // Where others are in, what is not about the credentials is
                // one connection's misfortune.
                let is_plain = refusal.is_some_and(|code| !blames_session(code));
                let is_harsh = is_current && host.known == Known::Accepted && !is_plain;
                assert!(!is_harsh, "{refusal:?} on lane {index} condemns the host: {attempt:?}");
                let is_again = host.told.replace((attempt.changes, true)) == Some((attempt.changes, true));
                assert!(!is_again, "the refusal on lane {index} was told before: {attempt:?}");
                if is_current {
                    host.known = Known::Refused;
                    host.was_refused = true;
                }
            }
            _ if is_refused_token && host.known != Known::Refused => {
                // Whatever befell the connection behind that.
                if !host.renews {
                    (host.known, host.renews, host.put_off) = (Known::Nothing, true, None);
                }
            }
            (Some(_), None) if is_nothing => {}
            (Some(_), refusal) => {
                // A refusal that is not about the credentials, where others are in.
                let is_odd = is_current && host.known == Known::Nothing && refusal.is_some();
                assert!(!is_odd, "lane {index} takes {refusal:?} for its own misfortune: {attempt:?}");
                let is_news = host.known == Known::Vague || host.put_off.is_none();
                if is_latest && host.known != Known::Accepted && is_news {
                    let surely = host.known == Known::Nothing && !own.is_silent;
                    host.failures += 1;
                    host.sure_failures += u32::from(surely);
                    let until = |failures| now + doubled(&self.settings[own.host], failures);
                    let sure = if surely { until(host.sure_failures) } else { Duration::ZERO };
                    host.put_off = Some((until(host.failures), sure));
                    host.is_news = surely;
                }
            }
            (None, None) => {}
            (None, Some(_)) if host.known == Known::Refused => {}
            (None, Some(_)) if host.told.is_some_and(|(changes, _)| changes == attempt.changes) => {}
            (None, Some(504)) if is_current && !is_token && is_same => {
                assert!(lane.session().is_authenticating(), "lane {index} drops a refusal");
            }
            (None, Some(code)) => panic!("nobody is told of the {code} on lane {index}: {attempt:?}"),
        }
    }

    /// Nobody begins who may not.
    fn begin(&mut self, index: usize, lanes: &[Lane], now: Duration) {
        let (own, lane) = (&self.lanes[index], &lanes[index]);
        let number = own.host;
        let (host, session) = (&self.hosts[number], lane.session());
        let is_same = own.before.connection == lane.connection();
        let was_under_way = is_same && own.before.is_under_way;
        let is_still = |attempt: &Attempt| (attempt.changes, attempt.renews) == (host.changes, host.renews);
        let has_others = own.before.refusal == Some(504) && own.attempt.as_ref().is_some_and(is_still);
        let is_under_way = is_under_way(lane);
        let failed = lane.link() == Link::Up && matches!(session.failure(), Some(Failure::Auth(_)));
        let stays_failed = is_same && own.before.has_failed && failed;
        if stays_failed || is_under_way && (was_under_way || is_same && has_others) {
            return;
        }
        if !is_under_way && !failed {
            self.lanes[index].attempt = None;
            return;
        }
        if !is_under_way && was_under_way {
            return;
        }
        let account = host.account.unwrap_or_else(|| panic!("lane {index} has nothing to log in with"));
        let is_early = host.put_off.is_some_and(|(_, sure)| now < sure);
        assert!(host.known != Known::Refused, "lane {index} says what was refused");
        assert!(host.known == Known::Accepted || !is_early, "lane {index} tries before its time");
        let (changes, renews) = (host.changes, host.renews);
        let connection = lane.connection();
        self.check_turn(index, number, lanes);
        let is_over = |(until, sure): &mut (Duration, Duration)| *until <= now || !sure.is_zero();
        self.hosts[number].put_off.take_if(is_over);
        self.lanes[index].attempt = Some(Attempt { connection, changes, account, renews, named: Vec::new() });
    }

    /// One lane begins, and others are under way only if somebody is in.
    fn check_turn(&mut self, index: usize, number: usize, lanes: &[Lane]) {
        let of_host = || self.lanes.iter().zip(lanes).filter(|(own, _)| own.host == number);
        let host = &self.hosts[number];
        let count = of_host().filter(|(_, other)| is_under_way(other)).count();
        let is_alone = !is_under_way(&lanes[index]) || count == 1;
        let is_one_in = || of_host().any(|(own, other)| is_in(own, host, other));
        // It may have gone when the lane had begun.
        let was_one_in = of_host().any(|(own, _)| own.before.is_in || own.told == Some(EventKind::AuthPass));
        let known = match host.known {
            Known::Accepted if is_one_in() => return,
            Known::Accepted | Known::Vague if was_one_in => Known::Vague,
            Known::Accepted => Known::Nothing,
            known => known,
        };
        let may_join = known == Known::Vague && was_one_in;
        assert!(is_alone || may_join, "lane {index} does not wait its turn, while {:?}", host.known);
        self.hosts[number].known = known;
    }
}

/// Whether a refusal is not about the credentials.
fn blames_session(code: u16) -> bool {
    matches!(code, 500..=504 | 530 | 538)
}

/// Whether the lane is authenticated with what its host has now.
fn is_in(own: &LaneLogin, host: &HostLogin, lane: &Lane) -> bool {
    let session = lane.session();
    session.is_authenticated()
        && !session.is_leaving()
        && own.entered == Some((lane.connection(), host.changes))
}

fn is_under_way(lane: &Lane) -> bool {
    lane.link() == Link::Up && lane.session().is_authenticating()
}
