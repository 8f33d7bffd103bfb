#!/usr/bin/env bash
# A private Exim (4.96) for tests: `exim.sh start DIR`, `exim.sh stop DIR`. To be run by root.
#
# It reads from DIR/ports name=port lines: open, bare, which offers no CHUNKING, and strict, which has the
# patience that Exim has by default. Every mail for anybody becomes a file in DIR/mail/new. What it says
# of each is in DIR/logs/main, what went wrong in the other files beside it.
# A recipient that begins with "reject" is refused by 550, one with "defer" by 451, and a mail of more
# than 200,000 octets by 552.
set -euo pipefail

. "$(dirname "$0")/common.sh"

# It conflicts with Postfix as a package; so the program may stand alone.
exim=/usr/sbin/exim4
[ -x "$exim" ] || exim=/usr/local/sbin/exim4
# The user is built into Debian's program, which does not run where he is not known.
user=Debian-exim

exim_files() {
    local group
    group=$(id -gn "$user")
    mkdir -p "$dir/spool" "$dir/mail" "$dir/logs"
    chown "$user:$group" "$dir/spool" "$dir/mail" "$dir/logs"
    cat >"$dir/exim.conf" <<END
exim_path = $exim
exim_user = $user
exim_group = $group
keep_environment =
spool_directory = $dir/spool
log_file_path = $dir/logs/%s
log_selector = +pipelining
pid_file_path = $dir/spool/daemon.pid
primary_hostname = mx.example
daemon_smtp_ports = $open : $bare : $strict
local_interfaces = 127.0.0.1
tls_advertise_hosts =
chunking_advertise_hosts = \${if eq{\$received_port}{$bare}{}{*}}
pipelining_connect_advertise_hosts =
dsn_advertise_hosts = *
message_size_limit = 200000
# No limit of its own that a test with many sessions and mails would meet.
smtp_accept_max = 200
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 128
recipients_max = 0
smtp_accept_max_nonmail_hosts = \${if eq{\$received_port}{$strict}{*}}
# Nothing is asked of anybody else.
rfc1413_query_timeout = 0s
host_lookup =
never_users =
deliver_drop_privilege = true
acl_smtp_rcpt = recipient
begin acl
recipient:
  deny  local_parts = ^reject
        message = no such user
  defer local_parts = ^defer
        message = not now
  accept
begin routers
all:
  driver = accept
  transport = store
begin transports
store:
  driver = appendfile
  maildir_format
  directory = $dir/mail
  envelope_to_add
  return_path_add
  user = $user
END
}

start() {
    read_ports open bare strict
    chmod 711 "$dir"
    exim_files
    # It goes into the background and into a session of its own when it listens. Each mail is
    # delivered as soon as it was taken.
    cd "$dir/spool"
    "$exim" -C "$dir/exim.conf" -bd -odi </dev/null >>"$dir/logs/start" 2>&1
    until_true greets "$open"
    until_true greets "$bare"
    until_true greets "$strict"
}

case $action in
start) start ;;
stop) end "$dir/spool/daemon.pid" "$dir/spool" ;;
*)
    echo "start or stop, not $action" >&2
    exit 2
    ;;
esac
