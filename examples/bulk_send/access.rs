//! TLS and login: what the command line says of them, and what the library makes of it. It must
//! never take a secret from the command line, nor show one.

use crate::input::{InputError, quoted};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use smtp_bulk::{AuthMechanism, Credentials, Security, Tls};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where the password is when no file is named.
const VARIABLE: &str = "SMTP_PASSWORD";

/// Longest password or token, in octets: the library takes no longer one.
const MAX_PASSWORD: usize = 8192;

/// Why there is no option for it.
pub const NO_PASSWORD: &str = "--password: there is no such option, because everybody on this machine can read \
     a command line; use --password-file FILE or the environment variable SMTP_PASSWORD";

/// The options that this file knows, all with a value.
pub const OPTIONS: [&str; 9] =
    ["--tls", "--ca", "--cert", "--key", "--server-name", "--pin", "--user", "--auth", "--password-file"];

/// What every server is asked for beyond a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// Whether and how sessions are protected.
    pub security: Security,
    ca: Option<PathBuf>,
    /// Certificate and key of the client.
    own: Option<(PathBuf, PathBuf)>,
    server_name: Option<String>,
    pins: Vec<String>,
    login: Option<Login>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Login {
    mechanism: Mechanism,
    user: String,
    password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Auto,
    Forced(AuthMechanism),
}

impl Mechanism {
    fn parse(text: &str) -> Result<Mechanism, String> {
        if text.eq_ignore_ascii_case("AUTO") {
            return Ok(Mechanism::Auto);
        }
        // The text may be a password in the wrong place: it is not repeated.
        text.parse().map(Mechanism::Forced).map_err(|_| "is no mechanism; --help lists them all".to_owned())
    }

    fn has_password(self) -> bool {
        !matches!(self, Mechanism::Forced(AuthMechanism::External | AuthMechanism::Anonymous))
    }

    fn name(self) -> String {
        match self {
            Mechanism::Auto => "AUTO".to_owned(),
            Mechanism::Forced(mechanism) => mechanism.to_string(),
        }
    }
}

/// The options as they were given.
#[derive(Default)]
pub struct RawAccess {
    security: Option<Security>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
    pins: Vec<String>,
    user: Option<String>,
    mechanism: Option<Mechanism>,
    password_file: Option<PathBuf>,
}

impl RawAccess {
    /// Takes one of [`OPTIONS`].
    pub fn set(&mut self, option: &str, value: OsString) -> Result<(), String> {
        if value.is_empty() {
            return Err("is empty".to_owned());
        }
        match option {
            "--ca" => return once(&mut self.ca, value.into()),
            "--cert" => return once(&mut self.cert, value.into()),
            "--key" => return once(&mut self.key, value.into()),
            "--password-file" => return once(&mut self.password_file, value.into()),
            _ => {}
        }
        let value = value.into_string().map_err(|_| "is not UTF-8".to_owned())?;
        match option {
            "--tls" => once(&mut self.security, security(&value)?),
            "--server-name" => once(&mut self.server_name, value),
            "--pin" => {
                self.pins.push(value);
                Ok(())
            }
            "--user" => once(&mut self.user, value),
            "--auth" => once(&mut self.mechanism, Mechanism::parse(&value)?),
            _ => Err("is unknown".to_owned()),
        }
    }

    /// Whether all that fits together.
    pub fn finish(self, has_hosts: bool) -> Result<Access, String> {
        let security = self.security.unwrap_or_default();
        if security == Security::None {
            if let Some(option) = self.needs_tls() {
                return Err(format!("{option} needs --tls starttls or --tls implicit"));
            }
        } else if !has_hosts {
            return Err("--tls needs --host or --unix: the embedded server has no certificate".to_owned());
        }
        if self.ca.is_some() && !security.is_verified() && security != Security::None {
            return Err(
                "--ca and an insecure --tls exclude each other: no certificate is verified".to_owned()
            );
        }
        let own = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err("--cert needs --key FILE".to_owned()),
            (None, Some(_)) => return Err("--key needs --cert FILE".to_owned()),
        };
        let login = login(self.user, self.mechanism, self.password_file)?;
        let (ca, server_name, pins) = (self.ca, self.server_name, self.pins);
        Ok(Access { security, ca, own, server_name, pins, login })
    }

    /// The first option that is of no use, or of no safe use, without TLS.
    fn needs_tls(&self) -> Option<&'static str> {
        let given = [
            ("--ca", self.ca.is_some()),
            ("--cert", self.cert.is_some()),
            ("--key", self.key.is_some()),
            ("--server-name", self.server_name.is_some()),
            ("--pin", !self.pins.is_empty()),
            ("--user", self.user.is_some()),
            ("--auth", self.mechanism.is_some()),
            ("--password-file", self.password_file.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
    }
}

impl Access {
    /// The files that are read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let own = self.own.iter().flat_map(|(cert, key)| [cert, key]);
        let password = self.login.iter().filter_map(|login| login.password_file.as_ref());
        self.ca.iter().chain(own).chain(password).map(PathBuf::as_path)
    }

    /// Whether certificates are to bear the name by which a host is called.
    pub fn trusts_host_names(&self) -> bool {
        self.security.is_verified() && self.server_name.is_none()
    }

    /// What the user should know and may mean.
    pub fn warning(&self) -> Option<&'static str> {
        let is_blind =
            self.security != Security::None && !self.security.is_verified() && self.pins.is_empty();
        let shows = self.login.as_ref().is_some_and(|login| login.mechanism.has_password());
        let what = "an insecure --tls with --user: whoever stands in for the server may get the password";
        (is_blind && shows).then_some(what)
    }

    /// Which certificates are accepted, and which one is shown; nothing without
    /// TLS. Reads nothing.
    pub fn tls(&self) -> Option<Tls> {
        if self.security == Security::None {
            return None;
        }
        let mut tls = Tls::new();
        if let Some(ca) = &self.ca {
            tls = tls.root_certificate_file(ca).only_these_roots();
        }
        if let Some((cert, key)) = &self.own {
            tls = tls.client_certificate_files(cert, key);
        }
        if let Some(name) = &self.server_name {
            tls = tls.server_name(name);
        }
        Some(self.pins.iter().fold(tls, Tls::pin))
    }

    /// Who logs in, if anybody does. Reads the password.
    pub fn credentials(&self) -> Result<Option<Credentials>, String> {
        let Some(login) = &self.login else { return Ok(None) };
        let password = match &login.password_file {
            Some(path) => password_in(path).map_err(|error| error.to_string())?,
            None if !login.mechanism.has_password() => SecretString::from(""),
            None => password_of(std::env::var_os(VARIABLE))?,
        };
        let credentials = Credentials::from_net_smtp_bulk(&login.mechanism.name(), &login.user, password);
        credentials.map(Some).map_err(|error| format!("--auth: {error}"))
    }
}

fn security(text: &str) -> Result<Security, String> {
    Ok(match text {
        "none" => Security::None,
        "starttls" => Security::StartTls,
        "implicit" => Security::Implicit,
        "starttls-insecure" => Security::StartTlsUnverified,
        "implicit-insecure" => Security::ImplicitUnverified,
        _ => {
            let modes = "none, starttls, implicit, starttls-insecure or implicit-insecure";
            return Err(format!("{} is not {modes}", quoted(text)));
        }
    })
}

fn login(
    user: Option<String>,
    mechanism: Option<Mechanism>,
    password_file: Option<PathBuf>,
) -> Result<Option<Login>, String> {
    // The certificate says who one is.
    let needs_user = mechanism != Some(Mechanism::Forced(AuthMechanism::External));
    if user.is_none() && mechanism.is_some() && needs_user {
        return Err("--auth needs --user NAME".to_owned());
    }
    if user.is_none() && mechanism.is_none() {
        return match password_file {
            Some(_) => Err("--password-file needs --user NAME".to_owned()),
            None => Ok(None),
        };
    }
    let mechanism = mechanism.unwrap_or(Mechanism::Auto);
    if password_file.is_some() && !mechanism.has_password() {
        return Err(format!("--password-file: {} has no password", mechanism.name()));
    }
    Ok(Some(Login { mechanism, user: user.unwrap_or_default(), password_file }))
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err("is given twice".to_owned()),
    }
}

/// The password in a file, which need not be a regular one: a pipe or a file descriptor will do.
fn password_in(path: &Path) -> Result<SecretString, InputError> {
    let bad = |what: &str| InputError::file(path, what);
    let cannot = |error: std::io::Error| InputError::file(path, format!("cannot read: {error}"));
    let longest = MAX_PASSWORD + "\r\n".len();
    // Never grows, so that no copy is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(longest + 64));
    let file = File::open(path).map_err(cannot)?;
    file.take(u64::try_from(longest + 1).unwrap_or(u64::MAX)).read_to_end(&mut bytes).map_err(cannot)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| bad("is not UTF-8 text"))?;
    let password = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    match password.len() {
        0 => Err(bad("has no password in it")),
        length if length > MAX_PASSWORD => Err(bad("is too long for a password or token")),
        _ => Ok(SecretString::from(password)),
    }
}

fn password_of(variable: Option<OsString>) -> Result<SecretString, String> {
    let Some(value) = variable.filter(|value| !value.is_empty()) else {
        return Err(format!("--user needs --password-file FILE, or the environment variable {VARIABLE}"));
    };
    match value.into_string() {
        Ok(password) => Ok(SecretString::from(password)),
        Err(_) => Err(format!("{VARIABLE}: is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::fs;

    fn access(line: &str, has_hosts: bool) -> Result<Access, String> {
        let mut raw = RawAccess::default();
        let mut words = line.split_whitespace();
        while let (Some(option), Some(value)) = (words.next(), words.next()) {
            raw.set(option, value.into()).map_err(|what| format!("{option}: {what}"))?;
        }
        raw.finish(has_hosts)
    }

    #[test]
    fn nothing_means_no_tls_and_no_login() {
        let access = access("", false).unwrap();
        assert_eq!(access, Access::default());
        assert_eq!(access.security, Security::None);
        assert!(access.credentials().unwrap().is_none());
    }

    #[test]
    fn every_mode_has_its_security() {
        for (mode, security) in [
            ("none", Security::None),
            ("starttls", Security::StartTls),
            ("implicit", Security::Implicit),
            ("starttls-insecure", Security::StartTlsUnverified),
            ("implicit-insecure", Security::ImplicitUnverified),
        ] {
            assert_eq!(access(&format!("--tls {mode}"), true).unwrap().security, security, "{mode}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (line, what) in [
            ("--tls ssl", "--tls: `ssl` is not none, starttls, implicit,"),
            ("--tls implicit --tls none", "--tls: is given twice"),
            ("--ca a.pem", "--ca needs --tls starttls or --tls implicit"),
            ("--tls none --pin 00", "--pin needs --tls"),
            ("--user tim", "--user needs --tls"),
            ("--password-file p", "--password-file needs --tls"),
            ("--tls starttls-insecure --ca a.pem", "--ca and an insecure --tls exclude each other"),
            ("--tls starttls --cert c.pem", "--cert needs --key FILE"),
            ("--tls starttls --key k.pem", "--key needs --cert FILE"),
            ("--tls starttls --auth PLAIN", "--auth needs --user NAME"),
            ("--tls starttls --user tim --auth secret", "--auth: is no mechanism; --help lists them all"),
            ("--tls starttls --password-file p", "--password-file needs --user NAME"),
            ("--tls starttls --auth external --password-file p", "--password-file: EXTERNAL has no password"),
        ] {
            let error = access(line, true).unwrap_err();
            assert!(error.starts_with(what), "{line}: {error}");
        }
        let error = access("--tls starttls-insecure", false).unwrap_err();
        assert_eq!(error, "--tls needs --host or --unix: the embedded server has no certificate");
    }

    #[test]
    fn external_needs_neither_user_nor_password() {
        let access = access("--tls starttls --cert c.pem --key k.pem --auth EXTERNAL", true).unwrap();
        assert!(access.credentials().unwrap().is_some());
        assert_eq!(access.files().count(), 2);
    }

    #[test]
    fn a_password_that_any_server_may_get_is_a_warning() {
        let warning = |line| access(line, true).unwrap().warning();
        assert!(warning("--tls starttls-insecure --user tim").is_some());
        for fine in [
            "--tls starttls --user tim",
            "--tls starttls-insecure",
            "--tls starttls-insecure --user tim --pin 00",
            "--tls implicit-insecure --auth external",
        ] {
            assert_eq!(warning(fine), None, "{fine}");
        }
    }

    #[test]
    fn one_line_end_behind_the_password_is_taken_off() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            fs::write(file.path(), text).unwrap();
            password_in(file.path()).map(|password| password.expose_secret().to_owned())
        };
        for (text, password) in
            [("a b", "a b"), ("x\n", "x"), ("x\r\n", "x"), ("x\n\n", "x\n"), ("x\r", "x\r")]
        {
            assert_eq!(read(text).unwrap(), password, "{text:?}");
        }
        let longest = "x".repeat(MAX_PASSWORD);
        assert_eq!(read(&format!("{longest}\r\n")).unwrap(), longest);
        let name = file.path().display().to_string();
        for (text, what) in
            [("", "has no password"), ("\n", "has no password"), (&*format!("{longest}x"), "is too")]
        {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}: {what}")), "{error}");
        }
        fs::write(file.path(), b"p\xe4ssword").unwrap();
        assert_eq!(password_in(file.path()).unwrap_err().to_string(), format!("{name}: is not UTF-8 text"));
        let missing = password_in(Path::new("/nonexistent/p")).unwrap_err().to_string();
        assert!(missing.starts_with("/nonexistent/p: cannot read: "), "{missing}");
    }

    #[test]
    fn without_a_file_the_environment_has_the_password() {
        assert_eq!(password_of(Some("secret".into())).unwrap().expose_secret(), "secret");
        for none in [None, Some(OsString::new())] {
            let error = password_of(none).unwrap_err();
            assert_eq!(error, "--user needs --password-file FILE, or the environment variable SMTP_PASSWORD");
        }
    }
}
