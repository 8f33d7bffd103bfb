#!/usr/bin/env bash
# A private Dovecot (2.3) for tests that takes mail by LMTP: `dovecot.sh start DIR`, `dovecot.sh stop DIR`.
# To be run by root.
#
# It reads from DIR:
#   ports   an lmtp=port line
#   users   the local parts that it knows, one a line; any other is refused by 550
# and listens on the socket DIR/lmtp.sock as well. Every mail becomes a file in DIR/mail/USER/new, for
# each recipient. What went wrong is in DIR/log.
# Whoever's name begins with "full" has a mailbox without room, which is told by 552 behind the content;
# that of one with "broken" cannot be written to, which is 451 there.
set -euo pipefail

. "$(dirname "$0")/common.sh"
base=$dir/dovecot

dovecot_files() {
    local ids
    ids=$(id -u nobody):$(id -g nobody)
    mkdir -p "$base" "$dir/mail"
    chown nobody "$dir/mail"
    awk -v ids="$ids" '{ extra = "" }
        /^full/ { extra = "userdb_quota_rule=*:bytes=1" }
        /^broken/ { extra = "userdb_mail=maildir:/proc/none" }
        { print $0 "::" ids "::/nonexistent::" extra }' "$dir/users" >"$base/users"
    chown dovecot "$base/users"
    cat >"$base/dovecot.conf" <<END
base_dir = $base/run
state_dir = $base/state
log_path = $dir/log
protocols = lmtp
ssl = no
hostname = mx.example
postmaster_address = postmaster@mx.example
# Behind the domain is cut off.
auth_username_format = %Ln
mail_location = maildir:$dir/mail/%n
first_valid_uid = 1
mail_fsync = never
recipient_delimiter =
mail_plugins = quota
plugin {
  quota = maildir:User quota
}
passdb {
  driver = passwd-file
  args = $base/users
}
userdb {
  driver = passwd-file
  args = $base/users
}
service anvil {
  client_limit = 500
}
service auth {
  client_limit = 500
}
service lmtp {
  process_limit = 100
  inet_listener lmtp {
    address = 127.0.0.1
    port = $lmtp
  }
  unix_listener $dir/lmtp.sock {
    mode = 0600
  }
}
END
}

start() {
    read_ports lmtp
    # The servers' own users go through it.
    chmod 711 "$dir"
    dovecot_files
    # It goes into the background and into a session of its own when it listens.
    dovecot -c "$base/dovecot.conf" </dev/null >>"$dir/log" 2>&1
    until_true greets "$lmtp"
}

case $action in
start) start ;;
stop) end "$base/run/master.pid" "$base/run" ;;
*)
    echo "start or stop, not $action" >&2
    exit 2
    ;;
esac
