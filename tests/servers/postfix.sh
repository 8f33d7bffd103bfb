#!/usr/bin/env bash
# A private Postfix for tests, with Dovecot (2.3) for its AUTH: `postfix.sh start DIR`, `postfix.sh stop DIR`.
# To be run by root, as both programs change their user.
#
# It reads from DIR:
#   ports                              name=port lines: starttls, implicit, client_cert, plain, which
#                                      ask for AUTH; open, which does not; bare, the same without CHUNKING
#   users                              name TAB password, one a line
#   server.pem, server.key, ca.pem     the chain, its key, and who signs the clients' certificates
#   oauth.key                          base64 of the key of HS256 tokens; their "sub" is the user
# and every mail for anybody becomes a file in DIR/mail/inbox/new. What went wrong is in DIR/log.
# On open and bare, a recipient that begins with "reject" is refused by 550, one with "defer" by 450,
# and a mail of more than 200,000 octets by 552.
set -euo pipefail

. "$(dirname "$0")/common.sh"
queue=$dir/queue
base=$dir/dovecot

# ---- start ---------------------------------------------------------------------------------------

dovecot_files() {
    mkdir -p "$base/keys/default/HS256"
    cp "$dir/oauth.key" "$base/keys/default/HS256/default"
    # In base64, as a password may contain what separates the fields.
    while IFS=$'\t' read -r name password || [ -n "$name" ]; do
        printf '%s:{PLAIN.b64}%s\n' "$name" "$(printf %s "$password" | base64 -w 0)"
    done <"$dir/users" >"$base/users"
    chown -R dovecot "$base/keys" "$base/users"
    cat >"$base/oauth2.conf" <<END
introspection_mode = local
local_validation_key_dict = fs:posix:prefix=$base/keys/
username_attribute = sub
END
    # Names as they are sent: neither a set of allowed characters nor lower case. No penalty
    # for a wrong password, which would hold up whatever comes next from this address.
    cat >"$base/dovecot.conf" <<END
base_dir = $base/run
state_dir = $base/state
log_path = $dir/log
protocols =
ssl = no
disable_plaintext_auth = no
auth_username_chars =
auth_username_format = %u
auth_failure_delay = 0
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256 oauthbearer xoauth2
passdb {
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = $base/oauth2.conf
}
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u $base/users
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service auth {
  unix_listener $queue/auth {
    mode = 0600
    user = postfix
  }
}
END
}

postfix_files() {
    mkdir -p "$dir/etc" "$queue" "$dir/data" "$dir/mail"
    chown postfix "$dir/data"
    chown nobody "$dir/mail"
    cat >"$dir/etc/main.cf" <<END
compatibility_level = 3.6
queue_directory = $queue
data_directory = $dir/data
maillog_file = $dir/log
maillog_file_prefixes = $dir
inet_protocols = ipv4
inet_interfaces = 127.0.0.1
myhostname = mx.example
mynetworks =
mydestination =
alias_maps =
local_recipient_maps =
default_transport = error:nothing leaves this machine
virtual_mailbox_domains = static:all
virtual_mailbox_base = $dir/mail
virtual_mailbox_maps = static:inbox/
virtual_mailbox_limit = 0
virtual_uid_maps = static:$(id -u nobody)
virtual_gid_maps = static:$(id -g nobody)
virtual_minimum_uid = 1
smtpd_relay_restrictions = permit_sasl_authenticated, permit_tls_all_clientcerts, reject
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
in_flow_delay = 0
notify_classes =
smtpd_tls_chain_files = $dir/server.key, $dir/server.pem
smtpd_tls_CAfile = $dir/ca.pem
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = auth
smtpd_sasl_security_options = noanonymous
END
    cat >"$dir/etc/recipients" <<END
/^reject/ 550 5.1.1 no such user
/^defer/  450 4.7.1 not now
END
    # Nobody is local here, for whom Postfix would add header fields.
    local unlocked="-o smtpd_tls_security_level=none -o smtpd_sasl_auth_enable=no -o mynetworks=127.0.0.0/8
    -o smtpd_relay_restrictions=permit_mynetworks,reject -o local_header_rewrite_clients=
    -o smtpd_recipient_restrictions=check_recipient_access,regexp:$dir/etc/recipients
    -o message_size_limit=200000"
    # The ports first; then what any Postfix consists of.
    cat >"$dir/etc/master.cf" <<END
127.0.0.1:$starttls inet n - n - - smtpd -o smtpd_tls_security_level=encrypt
127.0.0.1:$implicit inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
127.0.0.1:$client_cert inet n - n - - smtpd -o smtpd_tls_wrappermode=yes -o smtpd_tls_req_ccert=yes
127.0.0.1:$plain inet n - n - - smtpd -o smtpd_tls_security_level=none -o smtpd_tls_auth_only=no
127.0.0.1:$open inet n - n - - smtpd $unlocked
127.0.0.1:$bare inet n - n - - smtpd $unlocked -o smtpd_discard_ehlo_keywords=chunking,silent-discard
cleanup unix  n - n - 0 cleanup
qmgr    unix  n - n 300 1 qmgr
tlsmgr  unix  - - n 1000? 1 tlsmgr
rewrite unix  - - n - - trivial-rewrite
bounce  unix  - - n - 0 bounce
defer   unix  - - n - 0 bounce
trace   unix  - - n - 0 bounce
error   unix  - - n - - error
retry   unix  - - n - - error
virtual unix  - n n - - virtual
anvil   unix  - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
END
}

start() {
    read_ports starttls implicit client_cert plain open bare
    # The servers' own users go through it; what is secret in it, they cannot read.
    chmod 711 "$dir"
    chmod 600 "$dir/users" "$dir/oauth.key" "$dir/server.key"
    dovecot_files
    postfix_files
    # Both go into the background and into sessions of their own when they listen, and keep no
    # descriptor of ours. An address in use is thus an error here.
    dovecot -c "$base/dovecot.conf" </dev/null >>"$dir/log" 2>&1
    postfix -c "$dir/etc" start </dev/null >>"$dir/log" 2>&1
    # A greeting of these two shows that all is well with Dovecot; the others say nothing before TLS.
    until_true greets "$starttls"
    until_true greets "$plain"
}

case $action in
start) start ;;
stop)
    end "$queue/pid/master.pid" "$queue"
    end "$base/run/master.pid" "$base/run"
    ;;
*)
    echo "start or stop, not $action" >&2
    exit 2
    ;;
esac
