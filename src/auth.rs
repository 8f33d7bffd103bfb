//! Authentication (RFC 4954, RFC 4422): who logs in, by which mechanism, and
//! what is answered to a challenge. Without input or output, without a clock,
//! and without the commands of SMTP; no secret leaves it but in an answer.
//!
//! [`Credentials`] choose the strongest mechanism that a server offers. All
//! mechanisms are our own implementations of [`sasl`]'s trait, and one of the
//! caller's can stand beside them ([`Credentials::custom`]). Of that trait the
//! crate itself does not use `from_credentials`, nor SCRAM's `response`, which
//! derives the key where it stands; they are there for it to be whole.

mod account;
mod bearer;
mod echo;
mod exchange;
mod fault;
mod keys;
mod mechanism;
mod scram;
mod simple;
mod tokens;

use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};

use sasl::client::Mechanism;
use sasl::common::scram::{Sha1, Sha256};
use secrecy::SecretString;

pub use exchange::AuthJob;
pub(crate) use exchange::{Exchange, Move};
pub use fault::{AuthFault, UnknownMechanism};
pub use mechanism::AuthMechanism;
pub(crate) use mechanism::Tried;

use account::{Account, check_trace, prepared_identity, prepared_user};
use exchange::{Engine, panicked};
use fault::{guarded, shortened};
use keys::Keys;
use mechanism::{Choice, Offered, WITH_PASSWORD, WITH_TOKEN, is_name};
use scram::{Keyed, MIN_ITERATIONS, Scram};
use simple::{Anonymous, CramMd5, External, Login, Plain};
use tokens::{Source, Tokens};

/// Iterations of SCRAM that are done for a server unless
/// [`Credentials::max_iterations`] says otherwise: above the 600 000 that OWASP
/// asks for with SHA-256, and below what keeps a thread busy for long.
const DEFAULT_MAX_ITERATIONS: u32 = 1_000_000;

type Make = dyn Fn() -> Box<dyn Mechanism + Send> + Send + Sync;

/// Who logs in to a server, and how.
///
/// Clones share what is costly to get: the keys that SCRAM derives from a
/// password, and the token of a source. What is wrong with the arguments is
/// reported when the mailer is built.
///
/// ```
/// use smtp_bulk::{AuthMechanism, Credentials};
///
/// let usual = Credentials::password("tim", "tanstaaftanstaaf");
/// let forced = Credentials::password("tim", "tanstaaftanstaaf").mechanism(AuthMechanism::Login);
/// let token = Credentials::oauth_from("tim@example.org", || Ok(std::fs::read_to_string("token")?.trim().into()));
/// # let _ = (usual, forced, token);
/// ```
#[derive(Clone)]
pub struct Credentials {
    kind: Kind,
    forced: Option<AuthMechanism>,
    identity: Option<Arc<str>>,
    is_raw: bool,
    allows_cram_md5: bool,
    allows_without_tls: bool,
    max_iterations: u32,
}

#[derive(Clone)]
enum Kind {
    Password(Arc<Given>),
    Token { user: Arc<str>, tokens: Arc<Tokens> },
    External,
    Anonymous(Arc<str>),
    Custom(Arc<Make>),
}

/// A user and password as the caller gave them, and what became of them.
struct Given {
    user: Box<str>,
    password: SecretString,
    account: OnceLock<Result<Arc<Account>, AuthFault>>,
    keys: Arc<Keys>,
}

impl Given {
    fn new(user: Box<str>, password: SecretString) -> Arc<Given> {
        Arc::new(Given { user, password, account: OnceLock::new(), keys: Arc::default() })
    }

    fn scram(&self, scram: impl Keyed + 'static, account: &Arc<Account>) -> Engine {
        let (keys, account) = (Arc::clone(&self.keys), Arc::clone(account));
        Engine::Scram { scram: Box::new(scram), account, keys, slot: None }
    }
}

impl Credentials {
    /// A user and a password. The mechanism is the strongest that the server
    /// offers of SCRAM-SHA-256, SCRAM-SHA-1, CRAM-MD5 where
    /// [`Credentials::allow_cram_md5`] was called, PLAIN and LOGIN. Both are
    /// prepared with SASLprep (RFC 4013) unless [`Credentials::raw`] is called.
    /// The user has at most 255 octets, the password 1024; neither is empty or
    /// has a NUL.
    pub fn password(user: impl Into<String>, password: impl Into<SecretString>) -> Credentials {
        Credentials::of(Kind::Password(Given::new(user.into().into(), password.into())))
    }

    /// A user and a bearer token that never changes, for OAUTHBEARER or else
    /// XOAUTH2. A token is printable ASCII without spaces, of at most 8192
    /// octets.
    pub fn oauth(user: impl Into<String>, token: impl Into<SecretString>) -> Credentials {
        let tokens = Arc::new(Tokens::fixed(token.into()));
        Credentials::of(Kind::Token { user: user.into().into(), tokens })
    }

    /// Like [`Credentials::oauth`] with a source of tokens. It may block, and
    /// is called off the executor, by one connection at a time. Its token is
    /// used until a server refuses it; then it is asked once more, and the
    /// refusal counts only if the next token is refused too.
    ///
    /// The text of its error is shown to callbacks and in logs: it must not
    /// name secrets.
    pub fn oauth_from<F>(user: impl Into<String>, source: F) -> Credentials
    where
        F: Fn() -> Result<SecretString, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    {
        let source: Box<Source> = Box::new(source);
        let tokens = Arc::new(Tokens::asked_of(source));
        Credentials::of(Kind::Token { user: user.into().into(), tokens })
    }

    /// EXTERNAL: the server knows who one is by other means, such as a client
    /// certificate.
    pub fn external() -> Credentials {
        Credentials::of(Kind::External)
    }

    /// ANONYMOUS, with a trace of at most 255 letters, such as an address, for
    /// the server's log.
    pub fn anonymous(trace: impl Into<String>) -> Credentials {
        Credentials::of(Kind::Anonymous(trace.into().into()))
    }

    /// A mechanism of the caller's, made anew for each attempt and used if the
    /// server offers its name. It must not block.
    ///
    /// An empty initial response counts as none, save with EXTERNAL and
    /// ANONYMOUS; an empty first challenge is then answered with nothing, as
    /// a request for that response, and only another goes to the mechanism.
    /// The text of its errors is shown to callbacks and in logs. Its
    /// `from_credentials` is never called.
    ///
    /// ```
    /// use smtp_bulk::Credentials;
    /// use smtp_bulk::sasl::client::{Mechanism, MechanismError};
    ///
    /// /// Says one thing, and nothing else.
    /// struct Ticket(&'static str);
    ///
    /// impl Mechanism for Ticket {
    ///     fn name(&self) -> &str {
    ///         "X-TICKET"
    ///     }
    ///
    ///     fn from_credentials(_: smtp_bulk::sasl::common::Credentials) -> Result<Ticket, MechanismError> {
    ///         Err(MechanismError::InvalidState)
    ///     }
    ///
    ///     fn initial(&mut self) -> Vec<u8> {
    ///         self.0.into()
    ///     }
    /// }
    ///
    /// let credentials = Credentials::custom(|| Box::new(Ticket("admit one")));
    /// # let _ = credentials;
    /// ```
    pub fn custom<F>(make: F) -> Credentials
    where
        F: Fn() -> Box<dyn Mechanism + Send> + Send + Sync + 'static,
    {
        Credentials::of(Kind::Custom(Arc::new(make)))
    }

    /// From the arguments of Net::SMTP::Bulk: the name of a mechanism or
    /// `AUTO`, in any case, the user, and the password. The user is the
    /// authorization identity for EXTERNAL, none if it is empty, and the trace
    /// for ANONYMOUS; the password is the token for XOAUTH2 and OAUTHBEARER.
    ///
    /// ```
    /// # use smtp_bulk::Credentials;
    /// assert!(Credentials::from_net_smtp_bulk("AUTO", "user", "password").is_ok());
    /// assert!(Credentials::from_net_smtp_bulk("login", "user", "password").is_ok());
    /// assert!(Credentials::from_net_smtp_bulk("NTLM", "user", "password").is_err());
    /// ```
    pub fn from_net_smtp_bulk(
        mechanism: &str,
        user: impl Into<String>,
        password: impl Into<SecretString>,
    ) -> Result<Credentials, UnknownMechanism> {
        if mechanism.eq_ignore_ascii_case("AUTO") {
            return Ok(Credentials::password(user, password));
        }
        let mechanism: AuthMechanism = mechanism.parse()?;
        let user = user.into();
        let credentials = match mechanism {
            AuthMechanism::XOAuth2 | AuthMechanism::OAuthBearer => Credentials::oauth(user, password),
            AuthMechanism::External if user.is_empty() => Credentials::external(),
            AuthMechanism::External => Credentials::external().authorize_as(user),
            AuthMechanism::Anonymous => Credentials::anonymous(user),
            AuthMechanism::ScramSha256
            | AuthMechanism::ScramSha1
            | AuthMechanism::CramMd5
            | AuthMechanism::Plain
            | AuthMechanism::Login => Credentials::password(user, password),
        };
        Ok(credentials.mechanism(mechanism))
    }

    /// Uses this mechanism and no other. Forcing CRAM-MD5 allows it.
    pub fn mechanism(mut self, mechanism: AuthMechanism) -> Credentials {
        self.forced = Some(mechanism);
        self
    }

    /// Acts as somebody else than the user who logs in. The mechanisms that
    /// can't say so (LOGIN, CRAM-MD5, XOAUTH2) are then not used.
    pub fn authorize_as(mut self, identity: impl Into<String>) -> Credentials {
        self.identity = Some(identity.into().into());
        self
    }

    /// Uses CRAM-MD5 too, where a server offers it and nothing stronger.
    pub fn allow_cram_md5(mut self) -> Credentials {
        self.allows_cram_md5 = true;
        self
    }

    /// Sends these credentials over connections without TLS too, even by a
    /// mechanism that shows the password or token to whoever reads along, and
    /// whoever stands in between can see to it that such a one is chosen: force
    /// a SCRAM mechanism where that matters. Without this, credentials with
    /// [`Security::None`](crate::Security::None) are an error, and a session
    /// that was to have TLS if offered, and has none, uses only mechanisms that
    /// do not show the secret (SCRAM, CRAM-MD5, EXTERNAL, ANONYMOUS); whoever
    /// reads along can still try to guess it.
    pub fn allow_without_tls(mut self) -> Credentials {
        self.allows_without_tls = true;
        self
    }

    /// Sends names and password as they are, without SASLprep: for servers
    /// that compare octets, and passwords that SASLprep prohibits.
    ///
    /// Postfix with Dovecot 2.3, against which this crate is tested, compares
    /// octets, by PLAIN and SCRAM alike: names and passwords have to be sent as
    /// they were stored. Those that SASLprep changes, such as one with a
    /// ligature, `№` or a no-break space, are therefore accepted raw where they
    /// were stored as they were typed, and only without this where they were
    /// stored prepared. All others, anything in ASCII or of composed letters
    /// as in `pässwörd`, are the same either way.
    pub fn raw(mut self) -> Credentials {
        self.is_raw = true;
        if let Kind::Password(given) = &self.kind {
            // Keys and account of the same password, prepared, are other ones.
            self.kind = Kind::Password(Given::new(given.user.clone(), given.password.clone()));
        }
        self
    }

    /// The most iterations that SCRAM does for a server: 1 000 000 unless set,
    /// never less than 4096. A server that asks for more is not answered.
    pub fn max_iterations(mut self, iterations: u32) -> Credentials {
        self.max_iterations = iterations.max(MIN_ITERATIONS);
        self
    }

    /// Whether these credentials can be used at all.
    pub(crate) fn check(&self) -> Result<(), AuthFault> {
        match &self.kind {
            Kind::Password(given) => drop(self.account(given)?),
            Kind::Token { user, tokens } => {
                prepared_user(user, self.is_raw)?;
                tokens.check()?;
            }
            Kind::Anonymous(trace) => check_trace(trace)?,
            Kind::External | Kind::Custom(_) => {}
        }
        self.prepared_identity()?;
        let all = self.fitting();
        if self.forced.is_some_and(|forced| !all.contains(&forced)) {
            return Err(AuthFault::Prohibited("they are not for the mechanism that was asked for"));
        }
        if self.identity.is_some() && self.candidates().next().is_none() {
            return Err(AuthFault::Prohibited("their mechanism carries no authorization identity"));
        }
        Ok(())
    }

    /// Whether the caller said so.
    pub(crate) fn is_allowed_without_tls(&self) -> bool {
        self.allows_without_tls
    }

    /// The exchange's token was refused: it is forgotten, unless another has
    /// come since, so that of many connections one asks the source. Says
    /// whether another exchange, begun with `renew`, is worth it.
    pub(crate) fn token_refused(&self, used: &Exchange) -> bool {
        let Kind::Token { tokens, .. } = &self.kind else { return false };
        let Some(token) = used.token_of(tokens).filter(|_| tokens.can_renew()) else { return false };
        tokens.refuse(token);
        !used.is_renewed()
    }

    /// Chooses the strongest mechanism of those offered. `renew`: after
    /// `token_refused`, for an exchange whose token is the last.
    pub(crate) fn begin(
        &self,
        offered: &mut dyn Iterator<Item = &str>,
        has_tls: bool,
        tried: Tried,
        renew: bool,
    ) -> Result<Exchange, AuthFault> {
        self.check()?;
        if let Kind::Custom(make) = &self.kind {
            return self.begin_custom(make, offered, has_tls, tried);
        }
        let offered = Offered::read(offered, None);
        let is_usable =
            |mechanism: &AuthMechanism| offered.has(*mechanism) && !tried.has(Choice::Ours(*mechanism));
        let is_safe =
            |mechanism: &AuthMechanism| has_tls || self.allows_without_tls || !mechanism.shows_secret();
        let mut usable = self.candidates().filter(is_usable).peekable();
        if usable.peek().is_none() {
            return Err(AuthFault::NoMechanism { offered: offered.into_text() });
        }
        let mechanism = usable.find(is_safe).ok_or(AuthFault::NeedsTls)?;
        Ok(self.exchange(mechanism)?.renewed(renew))
    }

    fn begin_custom(
        &self,
        make: &Arc<Make>,
        offered: &mut dyn Iterator<Item = &str>,
        has_tls: bool,
        tried: Tried,
    ) -> Result<Exchange, AuthFault> {
        let made = guarded(|| {
            let mechanism = make();
            let name = shortened(mechanism.name());
            (mechanism, name)
        });
        let (mechanism, name) = made.map_err(panicked)?;
        if !is_name(&name) {
            return Err(AuthFault::Mechanism("its name is no mechanism's (RFC 4422 section 3.1)".into()));
        }
        let offered = Offered::read(offered, Some(&name));
        if !offered.has_custom() || tried.has(Choice::Custom) {
            return Err(AuthFault::NoMechanism { offered: offered.into_text() });
        }
        // Nobody knows what it shows.
        if !has_tls && !self.allows_without_tls {
            return Err(AuthFault::NeedsTls);
        }
        Ok(Exchange::new(Choice::Custom, &name, Engine::Custom { mechanism, opening: false }))
    }

    /// The exchange of a mechanism that fits the kind.
    fn exchange(&self, mechanism: AuthMechanism) -> Result<Exchange, AuthFault> {
        let identity = self.prepared_identity()?;
        let exchange = |engine| Exchange::new(Choice::Ours(mechanism), mechanism.name(), engine);
        match &self.kind {
            Kind::Password(given) => {
                let account = self.account(given)?;
                let engine = self.password_engine(mechanism, given, &account, identity)?;
                Ok(exchange(engine).with_secret(account.password()))
            }
            Kind::Token { user, tokens } => {
                let user = prepared_user(user, self.is_raw)?;
                let tokens = Arc::clone(tokens);
                Ok(exchange(match mechanism {
                    AuthMechanism::XOAuth2 => Engine::x_oauth2(user, tokens),
                    // Whom to act as, which is the token's user where nobody
                    // else is named (RFC 7628 §4.1).
                    _ => Engine::oauth_bearer(identity.unwrap_or(user), tokens),
                }))
            }
            Kind::Anonymous(trace) => Ok(exchange(ready(Anonymous::new(Arc::clone(trace)), true))),
            Kind::External | Kind::Custom(_) => Ok(exchange(ready(External::new(identity), true))),
        }
    }

    fn password_engine(
        &self,
        mechanism: AuthMechanism,
        given: &Given,
        account: &Arc<Account>,
        identity: Option<Box<str>>,
    ) -> Result<Engine, AuthFault> {
        let (own, cap, name) = (Arc::clone(account), self.max_iterations, identity.as_deref());
        Ok(match mechanism {
            AuthMechanism::Plain => ready(Plain::new(own, identity), true),
            AuthMechanism::CramMd5 => ready(CramMd5::new(own), false),
            AuthMechanism::Login => ready(Login::new(own), false),
            AuthMechanism::ScramSha1 => given.scram(Scram::<Sha1>::new(own, name, cap)?, account),
            _ => given.scram(Scram::<Sha256>::new(own, name, cap)?, account),
        })
    }

    /// The mechanisms for what these credentials have, the strongest first.
    fn fitting(&self) -> &'static [AuthMechanism] {
        match self.kind {
            Kind::Password(_) => WITH_PASSWORD,
            Kind::Token { .. } => WITH_TOKEN,
            Kind::External => &[AuthMechanism::External],
            Kind::Anonymous(_) => &[AuthMechanism::Anonymous],
            Kind::Custom(_) => &[],
        }
    }

    /// Those of them that the caller lets be used and that can say whom to act
    /// as, where that is asked for.
    fn candidates(&self) -> impl Iterator<Item = AuthMechanism> {
        let is_wanted = |mechanism: AuthMechanism| match self.forced {
            Some(forced) => mechanism == forced,
            None => mechanism != AuthMechanism::CramMd5 || self.allows_cram_md5,
        };
        let is_able = |mechanism: AuthMechanism| self.identity.is_none() || mechanism.carries_identity();
        self.fitting().iter().copied().filter(move |mechanism| is_wanted(*mechanism) && is_able(*mechanism))
    }

    fn account(&self, given: &Given) -> Result<Arc<Account>, AuthFault> {
        let prepare = || Account::new(&given.user, &given.password, self.is_raw).map(Arc::new);
        given.account.get_or_init(prepare).clone()
    }

    fn prepared_identity(&self) -> Result<Option<Box<str>>, AuthFault> {
        self.identity.as_deref().map(|identity| prepared_identity(identity, self.is_raw)).transpose()
    }

    fn of(kind: Kind) -> Credentials {
        Credentials {
            kind,
            forced: None,
            identity: None,
            is_raw: false,
            allows_cram_md5: false,
            allows_without_tls: false,
            max_iterations: DEFAULT_MAX_ITERATIONS,
        }
    }
}

impl fmt::Debug for Credentials {
    /// The kind and the mechanism alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Password(_) => "password",
            Kind::Token { .. } => "token",
            Kind::External => "external",
            Kind::Anonymous(_) => "anonymous",
            Kind::Custom(_) => "custom",
        };
        f.debug_struct("Credentials")
            .field("kind", &kind)
            .field("mechanism", &self.forced)
            .finish_non_exhaustive()
    }
}

/// `starts`: whether it has an initial response.
fn ready(mechanism: impl Mechanism + Send + 'static, starts: bool) -> Engine {
    Engine::Ready { mechanism: Box::new(mechanism), starts }
}

#[cfg(test)]
mod tests;
