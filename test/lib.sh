# Shared by test/run and test/lab; sourced by bash.

# User that runs servers: PostgreSQL refuses root.
fa_server_user() {
	if [ "$(id -u)" -ne 0 ]; then
		id -un
	elif getent passwd postgres >/dev/null; then
		echo postgres
	else
		echo nobody
	fi
}

# Runs a command as that user, without PG* variables of the caller's; with the
# capabilities that FA_CAPABILITIES names.
fa_as_server_user() {
	local user v unset=()
	user=$(fa_server_user)
	for v in $(compgen -e | grep -E '^(PG[A-Z_]*|LC_.*|LANG|LANGUAGE)$' || true); do
		case $v in PG_TEST_*|PG_REGRESS) ;; *) unset+=(-u "$v") ;; esac
	done
	if [ "$(id -u)" -eq 0 ]; then
		env "${unset[@]}" LC_ALL=C HOME=/tmp USER="$user" LOGNAME="$user" \
			setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups \
			${FA_CAPABILITIES:+--inh-caps="$FA_CAPABILITIES" --ambient-caps="$FA_CAPABILITIES"} -- "$@"
	else
		env "${unset[@]}" LC_ALL=C "$@"
	fi
}

# N free TCP ports on loopback, below the range of outgoing connections (a
# client that retries a port of that range can end up connected to itself).
fa_free_ports() {
	perl -MSocket -e '
		my ($n, @open) = (shift);
		my $tries = 0;
		while (@open < $n) {
			die "no free port\n" if ++$tries > 10000;
			my $port = 10240 + int(rand(21000));
			socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
			next unless bind($s, sockaddr_in($port, INADDR_LOOPBACK))
			  && listen($s, 1);
			push @open, $s;
			print "$port\n";
		}' "$1"
}

# Waits until a process has ended.
fa_wait_gone() {
	local pid=$1 seconds=$2
	for _ in $(seq $((seconds * 20))); do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.05
	done
	return 1
}

# Ends what still runs or lies about of the servers under a directory; only
# processes named by a postmaster.pid in it.
fa_stop_servers() {
	local dir=$1 file pid shm
	find "$dir" -name postmaster.pid -type f 2>/dev/null | while read -r file; do
		pid=$(sed -n 1p "$file")
		shm=$(sed -n 7p "$file" | awk '{print $2}')
		if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(dirname "$file")" ]; then
			kill -QUIT "$pid" 2>/dev/null || true
			fa_wait_gone "$pid" 10 || kill -KILL "$pid" 2>/dev/null || true
		fi
		# Left by a server that was killed and not started again.
		[ -z "$shm" ] || ipcrm -m "$shm" 2>/dev/null || true
	done
	return 0
}
