# What the scripts that start servers share: `NAME.sh start DIR`, `NAME.sh stop DIR`. It sets `action`
# and `dir`, and reads nothing but what is in DIR.
# Everything is in DIR and ends with stop; a script must never touch /etc, a system service, or a
# process that it did not start.
set -euo pipefail

action=${1:?start or stop}
dir=$(cd "${2:?a folder}" && pwd -P)

# Seconds after which a server that does not start or end has failed.
patience=30

until_true() {
    local end=$((SECONDS + patience))
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.02
    done
}

# Sets each of these variables to the number that a `name=port` line of DIR/ports has for it.
read_ports() {
    local name value wanted=" $* "
    while IFS='=' read -r name value; do
        [[ $wanted != *" $name "* ]] || printf -v "$name" %d "$value"
    done <"$dir/ports"
    for name in "$@"; do : "${!name:?a port}"; done
}

greets() {
    local line
    # A server that has just been started is given its time to answer.
    { read -r -t "$patience" line <&3; } 3<>"/dev/tcp/127.0.0.1/$1" && [[ $line == 220* ]]
} 2>/dev/null

# Whether no process of this group is left; one that ended and is not yet waited for is none.
group_ended() {
    local stat line fields
    for stat in /proc/[0-9]*/stat; do
        read -r line <"$stat" || continue
        # Behind the name in parentheses: state, parent, group.
        read -r -a fields <<<"${line##*) }"
        if [ "${fields[2]}" = "$1" ] && [ "${fields[0]}" != Z ]; then return 1; fi
    done 2>/dev/null
    return 0
}

# Ends a server and all of its processes, by its pid file and the folder in which it works: the number
# may be another's by now.
end() {
    local pid
    [ -s "$1" ] || return 0
    pid=$(tr -dc 0-9 <"$1")
    [ "$(readlink "/proc/$pid/cwd")" = "$2" ] || return 0
    kill "$pid" || return 0
    until_true group_ended "$pid" || {
        kill -KILL -- "-$pid"
        until_true group_ended "$pid"
    }
}
