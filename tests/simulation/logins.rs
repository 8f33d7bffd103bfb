//! Who may authenticate when: a model of what each host's lanes know of their
//! credentials, fed with the events and with what servers hear. A secret that
//! was refused is not said again, nobody tries beside the first one, and every
//! refusal is told or is worth another token.

use std::sync::Arc;

use smtp_bulk::coordinator::{Lane, Link, Standing};
use smtp_bulk::host::HostSettings;
use smtp_bulk::{EventKind, Failure, Security, Step};

use super::accounts::{Account, Kind};

/// What the lanes of a host know of their credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Accepted,
    Refused,
}

#[derive(Debug, Default)]
struct HostLogin {
    account: Option<usize>,
    /// How often the account was changed.
    changes: u32,
    known: Known,
    /// A token was refused, and the next one has not been accepted.
    renews: bool,
    /// They were refused in the last settle, whatever came behind that.
    was_refused: bool,
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
    has_failed: bool,
    /// AUTH was refused for good, which nobody has judged.
    refusal: Option<u16>,
}

#[derive(Debug, Default)]
struct LaneLogin {
    host: usize,
    attempt: Option<Attempt>,
    before: Before,
    told: Option<EventKind>,
    /// The connection that had a MAIL out when credentials came.
    spared: Option<u64>,
}

#[derive(Debug)]
pub struct Logins {
    pub accounts: Vec<Arc<Account>>,
    /// Some host has TLS or credentials.
    pub is_guarded: bool,
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
            let changes = host.changes + 1;
            *host = HostLogin { account: Some(account), changes, ..HostLogin::default() };
        }
        let mut renewed = Vec::new();
        for (index, lane) in lanes.iter().enumerate() {
            let session = lane.session();
            let concerned = lane.link() == Link::Up && !session.is_leaving() && !session.is_authenticated();
            self.lanes[index].spared =
                (concerned && session.step() == Step::Mail).then_some(lane.connection());
            let is_free = lane.standing() == Standing::Active
                && lane.held() == 0
                && session.is_usable()
                && !session.needs_reset();
            if concerned && lane.standing() != Standing::Opening && !is_free {
                renewed.push(index);
            }
        }
        renewed
    }

    /// The caller wants to try again what was refused.
    pub fn reopened(&mut self, lane: Option<usize>) {
        let only = lane.map(|lane| self.lanes[lane].host);
        for (number, host) in self.hosts.iter_mut().enumerate() {
            if host.known == Known::Refused && only.is_none_or(|only| only == number) {
                (host.known, host.renews) = (Known::Nothing, false);
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
    pub fn settled_in_part(&mut self, lanes: &[Lane]) {
        self.after_settle(lanes);
        self.look(lanes);
    }

    fn look(&mut self, lanes: &[Lane]) {
        for (own, lane) in self.lanes.iter_mut().zip(lanes) {
            let session = lane.session();
            let answer = session.answer().filter(|answer| answer.step == Step::Auth);
            let code = answer.map(|answer| answer.reply.code().as_u16());
            own.before = Before {
                connection: lane.connection(),
                is_under_way: is_under_way(lane),
                has_failed: session.failure().is_some(),
                refusal: code.filter(|code| *code >= 500),
            };
            own.told = None;
        }
    }

    /// A callback is asked about an authentication: says whether that is about
    /// the credentials that the lane's host has now.
    pub fn tell(&mut self, lane: usize, kind: EventKind) -> bool {
        let own = &mut self.lanes[lane];
        assert!(own.told.replace(kind).is_none(), "lane {lane} is told twice how it authenticated");
        let attempt = own.attempt.as_ref();
        let attempt = attempt.unwrap_or_else(|| panic!("{kind} on lane {lane}, which did not try"));
        attempt.changes == self.hosts[own.host].changes
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

    pub fn after_settle(&mut self, lanes: &[Lane]) {
        for (index, lane) in lanes.iter().enumerate() {
            self.learn(index, lane);
        }
        for index in 0..lanes.len() {
            self.begin(index, lanes);
        }
        for (number, host) in self.hosts.iter().enumerate() {
            let of_host = || lanes.iter().filter(|lane| lane.id().host as usize == number);
            let waits = |lane: &&Lane| {
                lane.standing() == Standing::Opening && lane.link() == Link::Up && lane.session().is_ready()
            };
            if let Some(waiting) = of_host().find(waits) {
                let id = waiting.id();
                assert!(host.known == Known::Nothing, "{id:?} waits, and {:?} is known", host.known);
                assert!(of_host().any(|lane| lane.session().is_authenticating()), "{id:?} waits for nobody");
            }
        }
    }

    /// What came of the lane's attempt holds for its host.
    fn learn(&mut self, index: usize, lane: &Lane) {
        let own = &self.lanes[index];
        let Some(attempt) = &own.attempt else { return };
        let host = &mut self.hosts[own.host];
        let is_current = attempt.changes == host.changes;
        let is_token = matches!(self.accounts[attempt.account].kind, Kind::Token { .. });
        let is_same = lane.connection() == own.before.connection;
        match (own.told, own.before.refusal) {
            (Some(EventKind::AuthPass), _) => {
                if is_current && attempt.renews == host.renews {
                    (host.known, host.renews) = (Known::Accepted, false);
                }
            }
            (Some(_), _) if is_current => {
                host.known = Known::Refused;
                host.was_refused = true;
            }
            (Some(_), _) | (None, None) => {}
            (None, Some(_)) if host.known == Known::Refused => {}
            (None, Some(504)) if is_current && !is_token && is_same => {
                assert!(lane.session().is_authenticating(), "lane {index} drops a refusal");
            }
            (None, Some(_)) if is_current && is_token && !attempt.renews => {
                (host.known, host.renews) = (Known::Nothing, true);
            }
            (None, Some(code)) => panic!("nobody is told of the {code} on lane {index}: {attempt:?}"),
        }
    }

    /// Nobody begins who may not.
    fn begin(&mut self, index: usize, lanes: &[Lane]) {
        let (own, lane) = (&self.lanes[index], &lanes[index]);
        let (host, session) = (&self.hosts[own.host], lane.session());
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
        assert!(host.known != Known::Refused, "lane {index} says what was refused");
        let count =
            lanes.iter().filter(|other| other.id().host == lane.id().host && self::is_under_way(other));
        let is_alone = !is_under_way || count.count() == 1;
        assert!(host.known == Known::Accepted || is_alone, "lane {index} does not wait its turn");
        let (changes, renews) = (host.changes, host.renews);
        let connection = lane.connection();
        self.lanes[index].attempt = Some(Attempt { connection, changes, account, renews, named: Vec::new() });
    }
}

fn is_under_way(lane: &Lane) -> bool {
    lane.link() == Link::Up && lane.session().is_authenticating()
}
